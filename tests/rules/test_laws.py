"""Laws over every rule on the shelf, by the nets of the zoo."""

import sys
from functools import partial
from importlib import import_module

import pytest
import torch

import plumbob
from nets import ZOO, Uses, seeded
from nets_history import HISTORY
from plumbob.mending.certify import certify
from plumbob.mending.fold_centring import fold_centring
from plumbob.rule import findings, sections
from plumbob.rules import RULES
from plumbob.survey.measure import measure
from plumbob.testing import card, check_rule, check_watched_rule
from plumbob.types import Needs, Safety
from plumbob.verbs.apply import ACTS

AT_REST = [rule for rule in RULES if Needs.HISTORY not in rule.needs]
RUNNING = [rule for rule in RULES if Needs.HISTORY in rule.needs]


@pytest.mark.parametrize("rule", AT_REST, ids=lambda rule: rule.code)
def test_a_rule_keeps_the_laws(rule):
    case = ZOO[rule.code]
    check_rule(rule, leans=case(leans=True), plumb=case(leans=False))


@pytest.mark.parametrize("rule", RUNNING, ids=lambda rule: rule.code)
def test_a_rule_of_a_run_keeps_the_laws(rule):
    case = HISTORY[rule.code]
    check_watched_rule(rule, leans=case(leans=True), plumb=case(leans=False))


BY_HAND = {
    "PB101": "what a parameter was before NaN is not known",
    "PB108": "whether rank one is meant, and what pushed it there, is not known",
    "PB208": "what makes NaN lies in the data, the loss or the code of the model",
    "PB210": "the model needs them; what is done about them is done elsewhere",
    "PB311": "which column or bias is to go is for the user",
    "PB403": "what makes NaN lies in the data, the loss or the code of the model",
    "PB405": "the cut lies in the code of the model",
    "PB406": "whether inputs or the output's bias are to change is for the user",
    "PB505": "the term stands in the code of the loss; what strength is right is open",
    "PB506": "the hook is the user's code",
    "PB507": "a precision is chosen for the whole training, not for one layer",
    "PB604": "what a target should have been is not known",
    "PB605": "the loss is not the model's",
    "PB608": "where the wiring is broken is for the user to find",
    "PB612": "the loss is not the model's",
    "PB614": "the shapes are those of the code of the loop",
}

APPLY_TOO = ("PB107", "PB301", "PB302", "PB303", "PB307")  # they need no data
FIX_ALONE = (
    "PB304", "PB305", "PB306", "PB308", "PB309", "PB310", "PB312", "PB313", "PB314",
)  # fmt: skip


@pytest.mark.parametrize("rule", AT_REST, ids=lambda rule: rule.code)
def test_a_remedy_is_followed_but_for_those_by_hand(rule):
    overfit = Needs.OVERFIT in rule.needs
    survey = measure(**ZOO[rule.code](leans=True), overfit=overfit)
    found = findings(rule, survey)
    acts = {finding.remedy.act for finding in found}
    assert (acts == {None}) is (rule.code in {*BY_HAND, *FIX_ALONE})
    assert acts <= {None, *ACTS}
    told = sections(rule.judge.__doc__)["Remedy"]
    assert ("plumbob.apply" in told) is (acts != {None} or rule.code == "PB101")
    assert ("plumbob fix" in told) is (rule.code in {*APPLY_TOO, *FIX_ALONE})


@pytest.mark.parametrize("code", [*APPLY_TOO, *FIX_ALONE])
def test_fix_does_what_a_remedy_says_of_it(code):
    case = ZOO[code](leans=True)
    case.setdefault("data", torch.randn(8, 4, generator=seeded()))
    (finding,) = plumbob.check(**case, select=code).findings
    assert f"plumbob fix --select {code})" in finding.remedy.advice
    fixed, proof = plumbob.fix(case["model"], case["data"], select=code)
    assert {c.code for c in proof.certificates} == {code}
    exact = {Safety.EXACT: Safety.EXACT, Safety.CHANGES_TRAINING: Safety.EVAL_ONLY}
    claim = exact.get(finding.remedy.safety, Safety.EVAL_ONLY)
    assert {c.claim for c in proof.certificates} == {claim}
    assert not plumbob.check(**{**case, "model": fixed}, select=code).findings


@pytest.mark.parametrize("use", ["", "linear", "forward", "bias", "weight", "mode"])
@pytest.mark.parametrize("code", ["PB205", "PB206"])
def test_what_is_said_to_keep_the_function_keeps_it_however_a_layer_is_used(code, use):
    case = ZOO[code](leans=True)
    case |= {"model": Uses(case["model"].eval(), use).eval(), "stage": "trained"}
    report = plumbob.check(**case)
    at = [f for f in report.findings if f.site == "first" and f.code == code]
    remedies = [f.remedy for f in at]
    assert {r.safety for r in remedies} == {Safety.MANUAL if use else Safety.EXACT}
    assert all(
        r.advice.endswith("the layer's own call.") is bool(use) for r in remedies
    )
    for remedy in remedies if not use else ():
        site = remedy.arguments["site"]
        act = partial(fold_centring, site=site, mean=remedy.arguments["mean"])
        assert certify(case["model"], act, case["data"]).holds


def test_every_act_is_there():
    for name, home in ACTS.items():
        module, _, function = home.partition(":")
        assert getattr(import_module(module), function).__module__ == module
        assert module.rpartition(".")[2] == function == name.replace("-", "_")


def test_codes_are_unique_and_sorted():
    codes = [rule.code for rule in RULES]
    assert codes == sorted(set(codes))
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert [*ZOO, *HISTORY] == codes


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
