"""What the docs print is what the code prints, and their links lead somewhere."""

import inspect
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stdout
from copy import deepcopy
from io import StringIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import plumbob
from netting import mlp, seeded
from plumbob import cli, design
from plumbob.rewrites import ON_DEMAND, REWRITES
from plumbob.rule import sections as titled
from plumbob.rules import RULES
from test_healthy import FAMILIES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


def blocks(page):
    """Return (language, text) of each block of code."""
    return coded(page.read_text(encoding="utf-8"))


def coded(text):
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def sections(page):
    """Return (heading, blocks of code) of each section."""
    parts = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [(part.split("\n", 1)[0], coded(part)) for part in parts]


def printed(page):
    """Run a page's Python in order; return what it prints and what the page shows."""
    names, lines, shown = {}, [], []
    with torch.random.fork_rng(devices=[]):
        for language, text in page:
            if language == "python":
                said = StringIO()
                with redirect_stdout(said):
                    exec(compile(text, "page.md", "exec"), names)
                lines += [line.rstrip() for line in said.getvalue().splitlines()]
            elif not language:
                shown += [line for line in text.splitlines() if line != "..."]
    return lines, shown


def worded(lines):
    """Return lines without their numbers and pictures: training differs by rounding."""
    plain = (re.sub(r"[\d.,]*\d(e[+-]\d+)?", "#", line) for line in lines)
    return [" ".join(re.sub(r"[▁▂▃▄▅▆▇█│]+", "", line).split()) for line in plain]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of transformers' configs
@pytest.mark.parametrize(("name", "least"), [("begin-plumb", 10), ("redundancy", 4)])
def test_pages_run_and_print_what_they_show(name, least):
    lines, shown = printed(blocks(DOCS / f"{name}.md"))
    assert [line for line in shown if line not in lines] == []
    assert len(shown) >= least


def test_a_net_that_leans_badly_gets_the_report_that_is_shown():
    lines, shown = map(worded, printed(blocks(DOCS / "faults.md")))
    assert [line for line in shown if line not in lines] == []
    assert len(shown) >= 15


def test_views_are_as_shown():
    (look,) = [part for part in sections(DOCS / "guide.md") if "`look`" in part[0]]
    lines, shown = map(worded, printed(look[1]))
    assert [line for line in shown if line not in lines] == []
    assert len(shown) >= 20


def done(page):
    """Do all that a page shows, scripts and commands too; return what is said."""
    python = [text for language, text in page if language == "python"]
    train, rest = python[0], "\n".join(python[1:])
    Path("train.py").write_text(train, encoding="utf-8")
    Path("rest.py").write_text(rest, encoding="utf-8")
    shell = "".join(text for language, text in page if language == "sh")
    lines = [line for line in shell.splitlines() if line.startswith("plumbob ")]
    said = ""
    for words in (["rest.py"], *(["-m", *shlex.split(line)] for line in lines)):
        command = [sys.executable, *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        said += ended.stderr + ended.stdout
    return said


def flowing(text):
    """Return a text as one line: where lines end depends on how long numbers are."""
    return " ".join(worded(text.splitlines())).replace("-#", "#")


def test_fix_does_and_says_what_its_guide_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    page, said, names = blocks(DOCS / "fix.md"), StringIO(), {}
    with torch.random.fork_rng(devices=[]), redirect_stdout(said):
        for language, text in page:
            if language == "py":
                Path("net.py").write_text(text, encoding="utf-8")
            elif language == "python":
                exec(compile(text, "fix.md", "exec"), names)
            elif language == "sh":
                monkeypatch.setattr(sys, "argv", shlex.split(text))
                cli.main()
    shown = [text for language, text in page if not language and "net.py:" not in text]
    assert [
        part for part in shown if flowing(part) not in flowing(said.getvalue())
    ] == []
    assert len(shown) >= 7


HOLDS = {"In training and inference": True, "In inference": False}


@pytest.mark.parametrize(
    "rewrite", [*REWRITES, *ON_DEMAND], ids=lambda each: each.__name__
)
def test_a_rewrite_says_where_it_holds_and_where_not(rewrite):
    parts = titled(rewrite.__doc__)
    assert list(parts) == [
        *("", "Why", "Exact when", "Not when", "Side effects", "Example", "References")
    ]
    goal = parts["Exact when"].partition(":")[0]
    assert HOLDS[goal] == ('goal="training"' in parts["Example"])
    assert len(parts["Example"].splitlines()) <= 18


def test_watched_trainings_tell_what_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = blocks(DOCS / "watch.md")
    said = flowing(done(page))
    shown = [text for language, text in page if not language]
    parts = [part for text in shown for part in text.split("\n...\n")]
    assert [part for part in parts if flowing(part) not in said] == []
    assert len(parts) >= 12


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Lightning's, on this machine
def test_the_callback_that_is_shown_runs(tmp_path, monkeypatch):
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = mlp(8, 4, 2)

        def training_step(self, batch, _):
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    monkeypatch.chdir(tmp_path)
    (block,) = [text for kind, text in blocks(DOCS / "watch.md") if kind == "py"]
    data = list(zip(torch.randn(64, 8), torch.arange(64) % 2, strict=True))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    names, said = {"module": Module(), "loader": loader}, StringIO()
    with redirect_stdout(said):
        exec(compile(block, "watch.md", "exec"), names)
    assert "not judged:" in said.getvalue()
    assert (tmp_path / "runs" / "fit" / "run.sqlite").exists()


def test_the_guide_counts_the_rules_that_can_judge(tmp_path):
    model, x, y = mlp(8, 4, 2), torch.randn(64, 8, generator=seeded()), torch.arange(64)
    data, loss = [(x, y % 2)], torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters())
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    given = {
        "a safetensors file": (tmp_path / "model.safetensors",),
        "a model": (model,),
        "its structure alone: `--meta` and a batch": (deepcopy(model).to("meta"), x),
        "a model and data": (model, x),
        "and a loss": (model, data, loss),
        "and the optimiser": (model, data, loss, optimizer),
    }
    names, rules = ("model", "data", "loss", "optimizer"), {r.code for r in RULES}
    asked = len([rule for rule in RULES if not rule.opt_in])
    text = (DOCS / "guide.md").read_text(encoding="utf-8")
    for row, values in given.items():
        report = plumbob.check(**dict(zip(names, values, strict=False)))
        (told,) = re.findall(rf"^\| {re.escape(row)} \|.*\| (\d+) \|$", text, re.M)
        assert int(told) == asked - len(rules & report.not_judged.keys()), row


def test_the_sets_are_as_large_as_told():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f" {len(RULES)} rules " in readme
    assert f" {len(REWRITES)} rewrites " in readme
    cases = json.loads((ROOT / "benchmarks" / "fault_cases.json").read_text())["cases"]
    roles = Counter(case["role"] for case in cases)
    text = " ".join((DOCS / "faults.md").read_text(encoding="utf-8").split())
    well = len(cases) - roles["buggy"]
    assert (
        f"{len(cases)} trainings: {roles['buggy']} that are faulty and {well} that are "
        f"well, {roles['fixed']} of these the repaired twin" in text
    )
    assert f"holds {len(FAMILIES)} families" in text


def test_the_guide_takes_15_lines():
    code = [text for language, text in blocks(DOCS / "begin-plumb.md") if language]
    (main,) = [text for text in code if "plumbob.apply" in text]
    assert sum(1 for line in main.splitlines() if line.strip()) <= 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_headings(page):
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    for link, place in links:
        text = (page.parent / link if link else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        words = (re.sub(r"[^\w -]", "", heading).lower() for heading in headings)
        assert place in {word.replace(" ", "-") for word in words}, (link, place)


def test_the_table_of_a_runs_rules_is_theirs():
    text = (DOCS / "watch.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| \[(PB7\d\d)\]\((.*?)\) (\S+) \| (\w+) \|", text, re.M)
    rules = [rule for rule in RULES if rule.code.startswith("PB7")]
    assert told == [
        (rule.code, f"rules/{rule.name}.md", rule.name, rule.severity.name.lower())
        for rule in rules
    ]
    assert f"[{len(rules)} more](#the-rules-of-a-run)" in text
    guide = (DOCS / "guide.md").read_text(encoding="utf-8")
    assert f"{len(rules)} rules, [of runs](watch.md" in guide


def test_every_option_of_a_watch_is_in_the_reference():
    text = (DOCS / "index.md").read_text(encoding="utf-8").partition("`plumbob.watch` ")
    names = inspect.signature(plumbob.watch).parameters.keys() - {"model", "optimizer"}
    assert [name for name in names if f"`{name}`" not in text[2]] == []


def test_every_public_name_of_design_is_in_the_reference():
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [name for name in design.__all__ if f"`{name}`" not in text] == []
