"""`plumbob view` as a user meets it: runs that were recorded, and what is none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plumbob import cli
from plumbob.errors import InputError
from plumbob.sinks.run_file import RunFile
from plumbob.types import Needs, Survey
from plumbob.verbs.view import view
from sinking import finding, log

HERE = Path("runs", "a")


@pytest.fixture
def plumbob(tmp_path, monkeypatch, capsys):
    """Run the command line in a folder with two runs, `runs/a` and `runs/b`."""
    monkeypatch.chdir(tmp_path)
    for name, rate in (("a", 0.5), ("b", 0.25)):
        writer = RunFile.new(tmp_path / "runs" / name)
        survey = Survey(sites=(), known=Needs(0), about={"model": "Net"})
        writer.begin(survey, {"rate": rate})
        writer.write(log(0, sites=2))
        writer.write(log(7, sites=2, loss=rate))
        writer.tell(7, [finding(code="PB702", site=None)] if name == "a" else [])
        writer.event(7, "end", "")
        writer.close()

    def run(line):
        monkeypatch.setattr(sys, "argv", ["plumbob", *line.split()])
        status = cli.main()
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_a_page_goes_beside_the_run(plumbob):
    status, out, err = plumbob("view runs/a")
    page = Path("runs", "a.html").resolve()
    assert (status, out, err) == (0, "", f"wrote {page}\n")
    told = page.read_text(encoding="utf-8")
    assert told.startswith("<!doctype html>")
    assert "plumbob view runs/a -o page.html" in told
    assert "PB702" in told


def test_names_with_dots_keep_them(plumbob):
    Path("runs", "a").rename("runs/rate0.5")
    Path("runs", "b").rename("runs/rate0.25")
    for line in ("view runs/rate0.5", "view runs/rate0.25"):
        assert plumbob(line)[0] == 0
    pages = {page.name for page in Path("runs").glob("*.html")}
    assert pages == {"rate0.5.html", "rate0.25.html"}


def test_a_page_goes_where_it_is_sent(plumbob):
    assert plumbob("view runs/a -o there.html")[0] == 0
    assert Path("there.html").exists()
    assert not Path("runs", "a.html").exists()
    status, _, err = plumbob("view runs/a -o no/there.html")
    assert status == 2
    assert "make its folder first" in err


def test_text_and_json_go_to_the_terminal(plumbob):
    status, out, err = plumbob("view runs/a --format text")
    assert (status, err) == (0, "")
    assert out.startswith("a: ended; 8 steps, 2 steps measured")
    assert "when: from step 7" in out
    tree = json.loads(plumbob("view runs/a --format json")[1])
    assert tree["findings"][0]["spells"] == [{"found": 7, "gone": None}]
    assert tree["losses"]["loss"]["values"] == [1.0, 0.5]
    assert not list(Path("runs").glob("*.html"))


def test_two_runs(plumbob):
    assert plumbob("view runs/a runs/b")[0] == 0
    told = Path("runs", "a-and-b.html").read_text(encoding="utf-8")
    assert "in the first only" in told
    out = plumbob("view runs/a runs/b --format text")[1]
    assert "rate: 0.5 | 0.25" in out
    assert "PB702" in out
    one, two = json.loads(plumbob("view runs/a runs/b --format json")[1])
    assert (one["name"], two["name"]) == ("a", "b")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("view", "Missing argument"),
        ("view nothing", "nothing"),
        ("view runs", "such as 'runs/b'"),
        ("view runs/a runs/b runs/a", "expected one run or two to compare, got 3"),
        ("view runs/a --format pdf", "'pdf' is not one of 'html'"),
    ],
)
def test_what_cannot_be_viewed(plumbob, line, says):
    status, out, err = plumbob(line)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_file_that_is_no_run(plumbob):
    Path("x.sqlite").write_bytes(b"not a database" * 100)
    status, _, err = plumbob("view x.sqlite")
    assert status == 2
    assert "x.sqlite" in err


def test_a_format_that_is_meant(plumbob):
    with pytest.raises(InputError, match="Did you mean 'html'"):
        view([HERE], "htlm")


@pytest.mark.parametrize("form", ["html", "text", "json"])
def test_a_run_is_read_without_torch(plumbob, form):
    code = (
        "import sys; from pathlib import Path; from plumbob.verbs.view import view; "
        f"view([Path('runs/a')], {form!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
