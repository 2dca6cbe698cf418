from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from plumbob.errors import SettingsError
from plumbob.rules import RULES
from plumbob.verbs import shelf

OURS = replace(RULES[0], code="AB123", name="their-fault")
TWO = (OURS, replace(OURS, code="ZZ123", name="other-fault"))
TAKEN = RULES[0]
NO_RULE = 3


def install(monkeypatch, value):
    point = EntryPoint(name="them", value=f"{__name__}:{value}", group="plumbob.rules")
    monkeypatch.setattr(shelf, "entry_points", lambda group: [point])


@pytest.fixture(autouse=True)
def _importable(monkeypatch, request):
    monkeypatch.setitem(__import__("sys").modules, __name__, request.module)


@pytest.mark.parametrize(("value", "count"), [("OURS", 1), ("TWO", 2)])
def test_rules_of_others_join_ours(monkeypatch, value, count):
    install(monkeypatch, value)
    rules = shelf.shelf()
    assert len(rules) == len(RULES) + count
    assert rules[0].code == "AB123"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("TAKEN", "is already taken"),
        ("NO_RULE", "Expected a rule or a tuple of rules"),
        ("NOTHING", "cannot be loaded"),
    ],
)
def test_what_others_get_wrong_is_told_with_its_place(monkeypatch, value, said):
    install(monkeypatch, value)
    with pytest.raises(SettingsError, match=said) as caught:
        shelf.shelf()
    assert f"them = {__name__}:{value}" in str(caught.value)
