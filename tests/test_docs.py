"""What the docs print is what the code prints, and their links lead somewhere."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch

from plumbob import design

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]


def blocks(page):
    """Return (language, text) of each block of code."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_guide_runs_and_prints_what_it_shows():
    names, lines, shown = {}, [], 0
    with torch.random.fork_rng(devices=[]):
        for language, text in blocks(DOCS / "begin-plumb.md"):
            if language == "python":
                said = StringIO()
                with redirect_stdout(said):
                    exec(compile(text, "begin-plumb.md", "exec"), names)
                lines += [line.rstrip() for line in said.getvalue().splitlines()]
            elif not language:
                wanted = [line for line in text.splitlines() if line != "..."]
                assert [line for line in wanted if line not in lines] == []
                shown += len(wanted)
    assert shown >= 10


def test_the_guide_takes_15_lines():
    code = [text for language, text in blocks(DOCS / "begin-plumb.md") if language]
    (main,) = [text for text in code if "plumbob.apply" in text]
    assert sum(1 for line in main.splitlines() if line.strip()) <= 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_public_name_of_design_is_in_the_reference():
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    assert [name for name in design.__all__ if f"`{name}`" not in text] == []
