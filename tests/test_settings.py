from collections.abc import Iterator
from pathlib import Path

import pytest

from plumbob.errors import SettingsError
from plumbob.rule import rule
from plumbob.settings import Settings, load, read_baseline
from plumbob.types import Finding, Needs, Severity, Survey


@rule("XY101", "first-fault", Needs.WEIGHTS, Severity.INFO, since="0")
def first(survey: Survey) -> Iterator[Finding]:
    yield from ()


@rule("XY201", "second-fault", Needs.WEIGHTS, Severity.INFO, since="0")
def second(
    survey: Survey, *, fires_below: float = 0.5, at_least: int = 2
) -> Iterator[Finding]:
    yield from ()


RULES = (first, second)
FULL = """
select = ["XY2", "first-fault"]
ignore = "XY101"
baseline = "accepted.txt"
[per-site]
"encoder.*" = ["XY201"]
[second-fault]
fires_below = 1
"""


def test_all_keys(tmp_path):
    (tmp_path / "plumbob.toml").write_text(FULL)
    (tmp_path / "accepted.txt").write_text("# ours\nXY201 fc1  # known\n\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    settings = load(below).choose(RULES, ignore="XY1", thresholds=["XY201.at_least=3"])
    assert settings.select == ("XY2", "first-fault")
    assert settings.ignore == ("XY101", "XY1")
    assert settings.baseline == {"XY201 fc1"}
    assert settings.per_site == {"encoder.*": ("XY201",)}
    assert settings.thresholds == {"XY201": {"fires_below": 1.0, "at_least": 3}}
    assert settings.choose(RULES, select=["XY1,XY2"]).select == ("XY1", "XY2")
    assert load(below, with_baseline=False).baseline == frozenset()


def test_the_nearest_project_with_a_table_of_ours(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.plumbob]\nignore = ['XY1']")
    below = tmp_path / "a"
    below.mkdir()
    (below / "pyproject.toml").write_text("[project]\nname = 'x'")
    assert load(below).ignore == ("XY1",)
    (below / "plumbob.toml").write_text("")
    assert load(below).ignore == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("selct = []", "has no key 'selct'. Did you mean 'select'?"),
        ("select = [1]", "'select' is a list of codes or names"),
        ("select = ['XY9']", "There is no rule 'XY9'"),
        ("select = ['secnd-fault']", "Did you mean 'second-fault'?"),
        ("ignore = 3", "'ignore' is a list"),
        ("per-site = 3", "'per-site' is a table"),
        ("[per-site]\na = ['XY9']", "There is no rule 'XY9'"),
        ("baseline = 3", "'baseline' is a path"),
        ("baseline = 'none.txt'", "cannot be read (No such file or directory)"),
        ("[XY9]\na = 1", "There is no rule 'XY9'"),
        ("[XY201]\nfires_belw = 1", "Did you mean 'fires_below'?"),
        ("[XY201]\nfires_below = 'a'", "is of type float, such as 0.5, got 'a'"),
        ("[XY201]\nat_least = 2.5", "is of type int, such as 2, got 2.5"),
        ("[XY101]\na = 1", "XY101 has no threshold 'a'"),
        ("= 3", "cannot be read"),
    ],
)
def test_bad_settings_are_told_with_their_file(tmp_path, text, said):
    (tmp_path / "plumbob.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path).choose(RULES)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "text", ["XY201", "XY201.at_least", "XY201.at_least=", "XY201.at_least=x", "=3"]
)
def test_bad_assignments(text):
    with pytest.raises(SettingsError):
        Settings().choose(RULES, thresholds=[text])


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\nplumbob = 3"])
def test_a_table_that_is_none(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    if "plumbob" not in text:
        assert load(tmp_path) == Settings()
        return
    with pytest.raises(SettingsError, match=r"'tool.plumbob' is a table, got 3"):
        load(tmp_path)


def test_a_missing_baseline(tmp_path):
    with pytest.raises(SettingsError, match="--write-baseline"):
        read_baseline(Path(tmp_path / "none"))
