"""Laws over every rule on the shelf, by the nets of the zoo."""

import sys

import pytest

from nets import ZOO
from plumbob.rules import RULES
from plumbob.testing import card, check_rule


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_keeps_the_laws(rule):
    case = ZOO[rule.code]
    check_rule(rule, leans=case(leans=True), plumb=case(leans=False))


def test_codes_are_unique_and_sorted():
    codes = [rule.code for rule in RULES]
    assert codes == sorted(set(codes))
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert list(ZOO) == sorted(ZOO)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_lives_in_the_file_of_its_name(rule):
    name = rule.name.replace("-", "_")
    assert rule.judge.__module__ == f"plumbob.rules.{name}"
    assert rule.judge.__name__ == name
    assert sys.modules[rule.judge.__module__].__doc__.startswith(f"{rule.code}: ")


def test_every_file_of_the_shelf_is_listed():
    from pathlib import Path

    import plumbob.rules as shelf

    files = {p.stem for p in Path(shelf.__file__).parent.glob("[!_]*.py")}
    assert files == {rule.judge.__name__ for rule in RULES}


def test_what_explains_what_has_no_circle():
    explains = {rule.code: set(rule.explains) for rule in RULES}

    def below(code, path=()):
        assert code not in path, f"{' -> '.join((*path, code))} is a circle"
        for other in explains.get(code, ()):
            if other != code:  # at another site of the same chain
                below(other, (*path, code))

    for code in explains:
        below(code)


def test_a_card_with_faults_is_told():
    from dataclasses import replace

    rule = replace(RULES[0], code="x1", name="Bad Name")
    assert len(card(rule)) == 2
