"""The command line as a user meets it: exit status, streams, files, bad input."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from plumbob import address, cli

NET = """
import torch
from torch import nn
def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
def sick():
    net = build()
    net[0].weight.data[0, 0] = float("nan")
    return net
def solid():
    with torch.device("cpu"):
        return build()
def normed():
    model = build().insert(1, nn.BatchNorm1d(8))
    assert model[0].weight.is_meta
    return model
def batch(): return torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
def wrong(): return torch.zeros(16, 5)
def labels(): return torch.arange(16) % 2
def empty(): return []
def optimizer(model): return torch.optim.SGD(model.parameters(), lr=0.1)
def raises(): raise RuntimeError("out of luck")
def leaves(): raise SystemExit(4)
class Loud(nn.Linear):
    def __init__(self): super().__init__(4, 2)
    def forward(self, x):
        print("here")
        return super().forward(x)
class Quits(Loud):
    def forward(self, x): raise SystemExit(5)
class Mute(nn.Module):
    def forward(self, x): return x
"""


BAD = [
    ("chekc", "No such command 'chekc'"),
    ("check", "Missing argument 'TARGET'"),
    ("check --fromat json x", "No such option: --fromat"),
    ("check good.safetensors --format docx", "'docx' is not one of 'text'"),
    ("check good.safetensors --max-batches 0", "--max-batches"),
    ("check nothing_here", "Expected a safetensors file, a folder of them, or an"),
    ("check none.safetensors", "Expected a safetensors file"),
    ("check cli_net.py", "Name the model in 'cli_net.py', as in cli_net.py:build."),
    ("check cli_nte.py:build", "Did you mean 'cli_net.py'?"),
    ("check cli_net.py:biuld", "Did you mean 'build'?"),
    ("check cli_net.py:raises", "raised RuntimeError: out of luck"),
    ("check cli_net.py:batch", "Expected a torch.nn.Module"),
    ("check cli_net.py:Mute", "no parameters"),
    ("check nowhere.at.all:Model", "No module named 'nowhere'"),
    ("check cli_net.py:build --data cli_net.py:wrong", "16x5 and 4x8"),
    ("check cli_net.py:build --data cli_net.py:empty", "at least one batch"),
    ("check cli_net.py:build --data cli_net.py:nope", "has no 'nope'"),
    ("check cli_net.py:build --stage initial", "init"),
    ("check cli_net.py:build --weights good.safetensors", "fc.weight"),
    ("check cli_net.py:build --weights none.safetensors", "none.safetensors"),
    ("check good.safetensors --data cli_net.py:batch", "--data needs the address"),
    ("check good.safetensors --stage init", "--stage needs the address"),
    ("check cli_net.py:leaves", "raised SystemExit: 4"),
    ("check cli_net.py:Quits --data cli_net.py:batch", "called sys.exit(5)"),
    ("check good.safetensors --meta", "--meta builds the model itself"),
    ("check cli_net.py:build --meta", "give it with --data"),
    (
        "check cli_net.py:build --meta --data cli_net.py:batch --weights x",
        "leave out --weights",
    ),
    ("check cli_net.py:solid --meta --data cli_net.py:batch", "0.weight has some"),
    ("check good.safetensors --weights bad.safetensors", "--weights goes with"),
    ("check good.safetensors --select PB9", "There is no rule 'PB9'"),
    ("check good.safetensors --ignore non-finite-wieght", "'non-finite-weight'"),
    ("check good.safetensors --set PB101.x=1", "has no threshold 'x'"),
    ("check good.safetensors --set nonsense", "Expected --set CODE.threshold=value"),
    ("check good.safetensors --baseline none.txt", "none.txt"),
    ("check good.safetensors -o no/such/folder.txt", "cannot be written"),
    ("check good.safetensors -o nothing", "cannot be written"),
    ("check short.safetensors", "short.safetensors"),
    ("check hostile.safetensors", "hostile.safetensors"),
    ("check notes.txt", "notes.txt"),
    ("check nothing", "nothing"),
    ("look good.safetensors", "looking needs the address of a model"),
    ("look cli_net.py:build zz", "zz"),
    ("look cli_net.py:build 0 99", "99"),
    ("rule PB999", "There is no rule 'PB999'"),
    ("rule dead-rleu", "Did you mean 'dead-relu'?"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "cli_net.py").write_text(NET)
    good = {"fc.weight": torch.ones(2, 3) * torch.arange(1, 7).reshape(2, 3)}
    save_file(good, tmp_path / "good.safetensors")
    bad = {"fc.weight": good["fc.weight"] * float("nan")}
    save_file(bad, tmp_path / "bad.safetensors")
    whole = (tmp_path / "good.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[:-3])
    (tmp_path / "hostile.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    (tmp_path / "notes.txt").write_text("a plumb bob is a weight on a line")
    (tmp_path / "nothing").mkdir()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("cli_net", None)


@pytest.fixture
def plumbob(folder, monkeypatch, capsys):
    def run(line):
        monkeypatch.setattr(sys, "argv", ["plumbob", *line.split()])
        status = cli.main()
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_status_and_text_of_checkpoints(plumbob):
    status, out, err = plumbob("check good.safetensors --select PB101")
    assert (status, out.splitlines()[-1], err) == (0, "Found no problems.", "")
    status, out, err = plumbob("check bad.safetensors --select PB101")
    assert (status, err) == (1, "")
    assert out.startswith("PB101 non-finite-weight  fc.weight  x error\n")
    assert plumbob("check bad.safetensors --exit-zero")[0] == 0
    assert plumbob("check bad.safetensors --ignore PB101 --select PB1")[0] == 0


def test_model_on_data(plumbob):
    line = (
        "check cli_net.py:{} --data cli_net.py:batch --targets cli_net.py:labels "
        "--loss torch.nn:CrossEntropyLoss --optimizer cli_net.py:optimizer "
        "--format json --fail-on error"
    )
    status, out, err = plumbob(line.format("build"))
    assert (status, err) == (0, "")
    assert json.loads(out)["about"]["samples"] == 16
    status, out, _ = plumbob(line.format("sick"))
    assert status == 1
    assert json.loads(out)["findings"][0]["code"] == "PB101"


def test_what_a_model_prints_is_kept_out_of_the_report(plumbob):
    line = "check cli_net.py:Loud --data cli_net.py:batch --format json"
    status, out, err = plumbob(line)
    assert (status, set(err.split())) == (0, {"here"})
    assert json.loads(out)["about"]["model"] == "Loud"


def test_meta_judges_the_structure_alone(plumbob, folder):
    line = "check cli_net.py:normed --meta --data cli_net.py:batch --format json"
    status, out, _ = plumbob(line)
    assert status == 0
    told = json.loads(out)
    assert "PB301" in {finding["code"] for finding in told["findings"]}
    hollow = {k for k, why in told["not_judged"].items() if "no values (dev" in why}
    assert {"PB101", "PB102", "PB201"} <= hollow
    assert not [name for name in told["not_judged"] if "." in name]


def test_weights_are_loaded(plumbob, folder):
    state = {"0.weight": torch.full((8, 4), float("inf"))}
    state |= {"0.bias": torch.zeros(8), "2.weight": torch.ones(2, 8)}
    save_file(state | {"2.bias": torch.zeros(2)}, folder / "w.safetensors")
    line = "check cli_net.py:build --weights w.safetensors --select PB101"
    assert plumbob(line)[0] == 1


def test_a_file_is_written_whole(plumbob, folder):
    status, out, _ = plumbob("check bad.safetensors --format html -o report.html")
    assert (status, out) == (1, "")
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    assert not list(folder.glob(".*"))


def test_a_baseline_silences_what_was_accepted(plumbob, folder):
    assert plumbob("check bad.safetensors --write-baseline known.txt")[0] == 1
    assert "PB101 fc.weight\n" in (folder / "known.txt").read_text()
    assert plumbob("check bad.safetensors --baseline known.txt")[0] == 0
    (folder / "plumbob.toml").write_text('baseline = "known.txt"')
    assert plumbob("check bad.safetensors")[0] == 0
    assert plumbob("check bad.safetensors --write-baseline known.txt")[0] == 1


def test_look(plumbob):
    for more, shown in (("", "beta"), (" 0", "unit"), (" 0 3", "0[3]")):
        line = f"look cli_net.py:build{more} --data cli_net.py:batch"
        status, out, err = plumbob(line)
        assert (status, err) == (0, "")
        assert shown in out


def test_rule_cards(plumbob):
    status, out, _ = plumbob("rules")
    assert status == 0
    assert out.startswith("PB101  non-finite-weight")
    status, out, _ = plumbob("rule non-finite-weight")
    assert status == 0
    for title in ("Why:", "Evidence:", "Remedy:", "Allow when:", "References:"):
        assert title in out
    assert plumbob("rule PB201")[1].count("PB201.") >= 1


def test_help_says_that_importing_runs_code(plumbob):
    for line in ("", "--help"):
        assert "Exit status: 0 clean" in plumbob(line)[1]
    assert "importing it runs" in " ".join(plumbob("check --help")[1].split())


@pytest.mark.parametrize(("line", "said"), BAD)
def test_bad_input_is_one_sentence(plumbob, folder, line, said):
    before = sorted(path.name for path in folder.iterdir())
    status, out, err = plumbob(line)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert "plumbob itself failed" not in err
    after = sorted(p.name for p in folder.iterdir() if p.name != "__pycache__")
    assert after == before


def test_debug_adds_the_traceback(plumbob):
    status, _, err = plumbob("check cli_net.py:raises --debug")
    assert status == 2
    assert "Traceback" in err
    assert "RuntimeError: out of luck" in err
    assert err.splitlines()[-1].startswith("error: ")


def test_a_fault_of_our_own_asks_for_a_report(plumbob, monkeypatch):
    monkeypatch.setattr(address, "model", lambda text: 1 / 0)
    status, _, err = plumbob("check cli_net.py:build")
    assert status == 2
    assert "plumbob itself failed, ZeroDivisionError" in err
    assert "--debug" in err


def test_a_rule_that_crashes_is_told_and_gives_2(plumbob, monkeypatch):
    from dataclasses import replace

    import plumbob.rules as shelf

    def judge(survey):
        yield {}["x"]

    broken = replace(shelf.RULES[0], judge=judge)
    monkeypatch.setattr(shelf, "RULES", (broken, *shelf.RULES[1:]))
    status, out, _ = plumbob("check good.safetensors --exit-zero")
    assert status == 2
    assert "PB101: KeyError: 'x'" in out


@pytest.mark.parametrize(
    "line", ["--help", "rule PB101", "rules", "check good.safetensors --select PB101"]
)
def test_torch_is_not_loaded(folder, line):
    code = (
        "import sys; from plumbob.cli import main; status = main(); "
        "sys.exit(9 if 'torch' in sys.modules else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *line.split()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout


def test_colour_only_where_it_is_wanted(folder, monkeypatch):
    command = [sys.executable, "-m", "plumbob", "check", "bad.safetensors"]

    def out():
        return subprocess.run(command, capture_output=True, text=True).stdout

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in out()
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1;31mx error" in out()


def test_labels_of_a_unit(plumbob, folder):
    (folder / "gate.py").write_text(
        "import torch\n"
        "unit = torch.nn.Linear(2, 1)\n"
        "unit.weight.data.fill_(1)\n"
        "corners = torch.tensor([[0., 0], [0, 1], [1, 0], [1, 1]])\n"
    )
    look = "look gate.py:unit --data gate.py:corners weight 0 --labels"
    for labels, told in (
        ("0,0,0,1", "hold for b in [-2, -1)"),
        ("0,1,1,1", "hold for b in [-1, 0)"),
        ("0,1,1,0", "no bias gives the labels"),
    ):
        status, out, _ = plumbob(f"{look} {labels}")
        assert status == 0
        assert told in out
    assert plumbob(f"{look} 0,2,0,1")[0] == 2
    assert plumbob("look gate.py:unit --data gate.py:corners --labels 0,1")[0] == 2
