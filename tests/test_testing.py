"""`check_rule` holds rules to the laws: here are rules that break them."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest
import torch

from nets import non_finite_weight
from plumbob.rule import rule
from plumbob.rules import RULES
from plumbob.testing import card, check_rule
from plumbob.types import Finding, Needs, Remedy, Safety, Severity, Survey

GOOD = RULES[0]
CASES = {
    "leans": non_finite_weight(leans=True),
    "plumb": non_finite_weight(leans=False),
}


def broken(survey):
    return any(t.nans for t in survey.tensors.values())


def finding(message, **evidence):
    return Finding(
        message=message,
        cause="a test",
        evidence=evidence,
        remedy=Remedy(advice="Mend."),
    )


def with_judge(judge):
    judge.__doc__ = GOOD.judge.__doc__
    return replace(GOOD, judge=judge)


def test_a_good_rule():
    check_rule(GOOD, **CASES)


def test_a_rule_that_always_fires():
    def judge(survey):
        yield finding("leans")

    with pytest.raises(AssertionError, match="fires on the net that is plumb"):
        check_rule(with_judge(judge), **CASES)


def test_a_rule_that_never_fires():
    with pytest.raises(AssertionError, match="silent on the net that leans"):
        check_rule(with_judge(lambda survey: iter(())), **CASES)


def test_a_rule_with_a_memory():
    calls = count()

    def judge(survey):
        if broken(survey):
            yield finding("{n}", n=next(calls))

    with pytest.raises(AssertionError, match="differently the second time"):
        check_rule(with_judge(judge), **CASES)


@pytest.mark.parametrize("message", ["37 units", f"a mean of {0.25}", "1,024 of {n}"])
def test_a_rule_with_a_number_that_is_no_evidence(message):
    def judge(survey):
        if broken(survey):
            yield finding(message, n=3)

    with pytest.raises(AssertionError, match="numbers that are no evidence"):
        check_rule(with_judge(judge), **CASES)


def test_an_advice_with_a_number_that_is_no_evidence():
    def judge(survey):
        if broken(survey):
            advice = Remedy(advice="Keep 37 units.")
            yield replace(finding("{n}", n=3), remedy=advice)

    with pytest.raises(AssertionError, match=r"no evidence: \['37'\]"):
        check_rule(with_judge(judge), **CASES)


@pytest.mark.parametrize(
    "message", ["z > 0 in {n}", "fc2 reads 0.weight", "in (0, 1)", "with b = 0."]
)
def test_names_and_formulas_are_no_numbers(message):
    def judge(survey):
        if broken(survey):
            yield finding(message, n=3)

    check_rule(with_judge(judge), **CASES)


def test_a_rule_that_needs_what_its_case_lacks():
    needy = replace(GOOD, needs=Needs.WEIGHTS | Needs.GRADIENTS)
    with pytest.raises(AssertionError, match="gradients"):
        check_rule(needy, **CASES)


def test_measuring_leaves_the_optimizer_as_it_was():
    """Here a loss that writes to it, as no part of the check may."""
    case = non_finite_weight(leans=False)
    optimizer = torch.optim.SGD(case["model"].parameters(), lr=0.1)

    def loss(output, targets):
        optimizer.param_groups[0]["lr"] *= 0.5
        return output.square().mean()

    x = torch.randn(4, case["model"][0].in_features)
    plumb = case | {"data": (x, x), "loss": loss, "optimizer": optimizer}
    with pytest.raises(AssertionError, match="changed the model or the optimiser"):
        check_rule(GOOD, leans=CASES["leans"], plumb=plumb)


def test_cards():
    @rule("xy1", "Not Good", Needs.WEIGHTS, Severity.INFO, since="0")
    def bare(survey: Survey, *, above: float = 1.0) -> Iterator[Finding]:
        """Only this."""
        yield from ()

    faults = card(bare)
    assert len(faults) == 4
    assert "Args documents [], thresholds are ['above']" in faults
    assert card(GOOD) == []


def remedied(**remedy):
    """Return a rule of NaN in weights that offers a remedy."""

    def judge(survey):
        if broken(survey):
            offered = Remedy(advice="Mend.", **remedy)
            yield replace(finding("leans"), remedy=offered, site="0.weight")

    return with_judge(judge)


def mend(model, *, parameter):
    with torch.no_grad():
        model.get_parameter(parameter).nan_to_num_()


def mend_anything(model, *, parameter):
    for name, values in model.named_parameters():
        values.data.nan_to_num_(nan=0.0 if name == parameter else 1.0)


def double(model, *, parameter):
    mend(model, parameter=parameter)
    with torch.no_grad():
        model[2].bias.add_(1.0)


def mend_nothing(model, *, parameter):
    mend(copy.deepcopy(model), parameter=parameter)


@pytest.mark.parametrize(
    ("act", "safety", "says"),
    [
        ("mend_nothing", Safety.CHANGES_TRAINING, "still there after its remedy"),
        ("mend_anything", Safety.CHANGES_TRAINING, "a model that is not its own"),
        ("mend", Safety.MANUAL, "safety and act disagree"),
        ("double", Safety.EXACT, "changes the function"),
        ("double", Safety.EVAL_ONLY, "changes the function"),
    ],
)
def test_a_remedy_that_breaks_the_laws(act, safety, says):
    named = {"act": f"{__name__}:{act}", "arguments": {"parameter": "0.weight"}}
    cases = {name: {**case, "data": torch.ones(3, 4)} for name, case in CASES.items()}
    with pytest.raises(AssertionError, match=says):
        check_rule(remedied(safety=safety, **named), **cases)


def test_a_remedy_without_an_act_keeps_the_function_or_is_by_hand():
    check_rule(remedied(safety=Safety.EXACT), **CASES)
    with pytest.raises(AssertionError, match="safety and act disagree"):
        check_rule(remedied(safety=Safety.CHANGES_TRAINING), **CASES)
