"""`plumbob fix` and `plumbob prove` as a user meets them."""

import json
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import plumbob as package
from plumbob import address, cli

NET = """
import torch
from torch import nn
def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()).eval()
def batch(): return torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
def bert():
    from transformers import BertConfig, BertModel
    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=8, max_position_embeddings=8)
    model = BertModel(config, add_pooling_layer=False).eval()
    for p in model.parameters(): p.data.add_(0.1 * torch.randn_like(p))
    return model
def dead():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].bias.data.fill_(-20)
    return model
class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
    def forward(self, x): return self.fc(x.reshape(-1, 3, 7).sum(2))
def fused():
    model = build()
    fuse(model)
    return model
def fuse(model):
    model.eval()
    model[0] = torch.nn.utils.fusion.fuse_linear_bn_eval(model[0], model[1])
    model[1] = nn.Identity()
def dropped(model): model[0].bias = None
"""


@pytest.fixture
def plumbob(tmp_path, monkeypatch, capsys):
    def run(line):
        monkeypatch.setattr(sys, "argv", ["plumbob", *line.split()])
        status = cli.main()
        told = capsys.readouterr()
        return status, told.out, told.err

    (tmp_path / "fix_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    yield run
    sys.modules.pop("fix_net", None)


def test_a_model_is_mended_and_its_smaller_file_loads(plumbob):
    model = address.model("fix_net.py:build")
    save_file(model.state_dict(), "in.safetensors")
    status, out, err = plumbob(
        "fix fix_net.py:build --weights in.safetensors -o out.safetensors "
        "--data fix_net.py:batch --for training"
    )
    assert (status, err) == (0, "wrote out.safetensors and out.manifest.json\n")
    assert out.splitlines()[0] == "mended for training: 1 tensor removed"
    state = load_file("out.safetensors")
    assert model.state_dict().keys() - state.keys() == {"0.bias"}
    manifest = json.loads(Path("out.manifest.json").read_text(encoding="utf-8"))
    ((name, digest),) = manifest["input"].items()
    assert name == "in.safetensors"
    assert digest == f"sha256:{sha256(Path(name).read_bytes()).hexdigest()}"
    fresh = package.load(address.model("fix_net.py:build"), "out.safetensors")
    x = address.data("fix_net.py:batch")
    torch.testing.assert_close(fresh(x), model(x))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of a config
def test_a_hugging_face_model_is_mended(plumbob):
    status, out, _ = plumbob("fix fix_net.py:bert -o out.safetensors --format json")
    assert status == 0
    told = json.loads(out)
    codes = {one["code"] for one in told["rewrites"]}
    assert {"PB303", "PB304", "PB305", "PB309"} <= codes
    assert all(one["holds"] and one["identity_ulps"] < 16 for one in told["rewrites"])
    before = address.model("fix_net.py:bert")
    after = package.load(address.model("fix_net.py:bert"), "out.safetensors")
    ids = torch.arange(12).reshape(2, 6)
    torch.testing.assert_close(
        after(ids).last_hidden_state, before(ids).last_hidden_state
    )


def test_a_diff_writes_nothing(plumbob):
    before = sorted(Path().iterdir())
    status, out, err = plumbob("fix fix_net.py:build --diff")
    assert (status, err) == (1, "")
    assert "1: BatchNorm1d -> Identity\n  - weight float32[4], rms 1  PB312\n" in out
    assert sorted(p for p in Path().iterdir() if p.name != "__pycache__") == before
    line = "fix fix_net.py:build --diff --select PB303"
    assert plumbob(line) == (0, "nothing to mend\n", "")


def test_the_function_is_changed_only_on_demand(plumbob):
    line = "fix fix_net.py:dead --diff --data fix_net.py:batch --format json"
    status, out, _ = plumbob(f"{line} --unsafe-fixes --select PB201")
    told = json.loads(out)
    assert status == 1
    assert [one["act"] for one in told["unsafe"]] == ["set-bias"]
    assert told["rewrites"] == []
    assert told["diff"][0] == "0: Linear"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("fix fix_net.py:build", "Give either -o FILE"),
        ("fix fix_net.py:build --diff -o x.safetensors", "Give either -o FILE"),
        ("fix fix_net.py:build -o x.pt", ".safetensors file to write"),
        ("fix fix_net.py:build -o no/x.safetensors", "make the folder"),
        ("fix fix_net.py:build --diff --mode keep", "'keep' is not one of"),
        ("fix fix_net.py:build --diff --for fun", "'fun' is not one of"),
        ("fix fix_net.py:build --diff --select PB31,drop-kee-bias", "'drop-key-bias'?"),
        ("fix fix_net.py:build --diff --unsafe-fixes", "give it with --data"),
        ("fix fix_net.py:Odd --diff", "give one with --data"),
        ("fix fix_net.py:biuld --diff", "Did you mean 'build'?"),
        ("fix in.safetensors --diff", "--diff needs the address of a model"),
        (
            "fix fix_net.py:build --weights in.safetensors -o in.safetensors",
            "write to another file",
        ),
        ("prove fix_net.py:build fix_net.py:fused", "--data"),
        (
            "prove fix_net.py:build fix_net.py:batch --data fix_net.py:batch",
            "nn.Module",
        ),
        (
            "prove fix_net.py:batch fix_net.py:fused --data fix_net.py:batch",
            "nn.Module",
        ),
    ],
)
def test_bad_use_is_one_sentence(plumbob, line, told):
    save_file({"weight": torch.ones(1, 3)}, "in.safetensors")
    status, out, err = plumbob(line)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1
    assert not list(Path().glob("*.manifest.json"))


@pytest.mark.parametrize(
    ("after", "more", "status", "told"),
    [
        ("fuse", "", 0, "eval-only: holds on 3 probes (random parameters, random"),
        ("fused", "", 0, "eval-only: holds on 3 probes (parameters as they are,"),
        ("fuse", "--for training", 1, "exact: does NOT hold"),
        ("dropped", "", 1, "eval-only: does NOT hold"),
        ("build", "--for training", 0, "exact: holds"),
    ],
)
def test_anyones_rewrite_is_proved_or_not(plumbob, after, more, status, told):
    line = f"prove fix_net.py:build fix_net.py:{after} --data fix_net.py:batch {more}"
    found, out, err = plumbob(line)
    assert (found, err) == (status, "")
    assert out.startswith(told)


def test_a_certificate_is_told_as_json(plumbob):
    status, out, _ = plumbob(
        "prove fix_net.py:build fix_net.py:fuse --data fix_net.py:batch --format json"
    )
    told = json.loads(out)
    assert status == 0
    assert told["random_parameters"] is True
    assert told["claim"] == "eval-only"
    assert "0.bias" in told["changed"]
    assert "1: BatchNorm1d is now Identity" in told["side_effects"]
