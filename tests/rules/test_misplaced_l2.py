import numpy as np
import pytest
import torch
from torch import nn

import plumbob
from nets_optimizer import task
from netting import mlp
from plumbob.rule import findings
from plumbob.rules.misplaced_l2 import misplaced_l2
from plumbob.types import (
    Census,
    Group,
    Needs,
    Optimizer,
    Output,
    Pull,
    Severity,
    Site,
    Step,
    Survey,
)


def survey(value, pull, data=1.0, *, norm=None, floor=0.0, constant=2.0, l2="loss"):
    """Return facts of one weight that feels a penalty; the data's loss is 1."""
    pulled = Pull(order=2, strength=0.1, norm=pull, value=value)
    inside = value if l2 == "loss" else 0.0
    output = Output(
        site="fc",
        loss=1.0 + inside,
        shifted=1.0,
        zero=3.0,
        constant=constant + inside,
        shift=np.zeros(1),
        best=np.zeros(1),
        mean_output=np.zeros(1),
        floor=floor + inside,
    )
    decay = 0.0 if l2 == "loss" else 0.2
    return Survey(
        sites=(Site(name="fc", kind="linear", out=1, fan_in=1, weight="w", norm=norm),),
        known=Needs.STEP,
        tensors={"w": Census(shape=(1, 1), dtype="float32", count=1, mean=value**0.5)},
        optimizer=Optimizer(
            name="Adam" if l2 == "loss" else l2,
            steps=0,
            groups=(Group(parameters=("w",), lr=0.1, weight_decay=decay),),
        ),
        output=output,
        about={"loss": 1.0 + inside},
        step=Step(
            samples=8,
            pulls={"w": pulled} if l2 == "loss" else {},
            data={"w": data},
        ),
    )


def severity(*args, **facts):
    found = [f.severity for f in findings(misplaced_l2, survey(*args, **facts))]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("value", "pull", "facts", "expected"),
    [
        (8.01, 0.51, {}, Severity.WARNING),
        (7.99, 0.51, {}, Severity.INFO),  # four times what a constant costs
        (8.01, 0.49, {}, Severity.INFO),  # the data pull harder
        (8.01, 0.51, {"norm": "batch-norm"}, Severity.INFO),
        (8.01, 0.51, {"data": 0.0}, Severity.INFO),  # dead, and not by the penalty
        (6.01, 0.51, {"floor": 0.5}, Severity.WARNING),
        (5.99, 0.51, {"floor": 0.5}, Severity.INFO),
    ],
)
def test_a_penalty_is_too_strong_where_it_outweighs_all_that_can_be_gained(
    value, pull, facts, expected
):
    assert severity(value, pull, **facts) is expected


def test_weight_decay_of_sgd_is_in_its_place_unless_it_is_too_strong():
    # decay 0.2 is 0.1 w^2, and pulls with 0.2 |w|
    assert severity(79.0, 0.0, l2="SGD") is None
    assert severity(81.0, 0.0, data=3.5, l2="SGD") is Severity.WARNING
    assert severity(81.0, 0.0, data=3.7, l2="SGD") is None
    assert severity(10.0, 0.0, l2="Adam") is Severity.INFO
    assert severity(10.0, 0.0, l2="AdamW") is None


def test_l2_of_keras_is_half_the_weight_decay_of_torch():
    """l2(0.01) adds 0.01 |w|^2, so 0.02 w to the gradient (Keras' convention)."""
    torch.manual_seed(0)
    net, case, entropy = mlp(8, 16, 3), task(), nn.CrossEntropyLoss()
    case["loss"] = lambda out, target: (
        entropy(out, target) + 0.01 * net[0].weight.square().sum()
    )
    report = plumbob.check(net, **case, select="PB505")
    (found,) = report.findings
    assert found.evidence["strength"] == pytest.approx(0.01)
    assert found.evidence["decay"] == pytest.approx(0.02)
    assert found.evidence["parameters"] == 1


@pytest.mark.parametrize(
    ("term", "order"),
    [
        (lambda net: net[0].weight.abs().sum(), 1),
        (lambda net: net[0].weight.pow(4).sum(), 0),  # no penalty that this rule knows
    ],
)
def test_other_penalties(term, order):
    net, case, entropy = mlp(8, 16, 3), task(), nn.CrossEntropyLoss()
    case["loss"] = lambda out, target: entropy(out, target) + 0.01 * term(net)
    report = plumbob.check(net, **case, select="PB505")
    pulls = report.survey.step.pulls
    assert {n: p.order for n, p in pulls.items()} == {"0.weight": order}
    assert bool(report.findings) is bool(order)
