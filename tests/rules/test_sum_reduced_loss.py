from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from asking import found as asked
from asking import normal
from hand_chains import ADAM, SGD
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.sum_reduced_loss import sum_reduced_loss
from plumbob.survey.measure import measure
from plumbob.types import Loss, Needs, Output, Step, Survey

CLASSES = torch.randint(5, (64,), generator=seeded(1))
SUM = Loss(samples=64, batch=32, units=5, reduction="sum")


def told(loss=SUM, output=None, optimizer=SGD, **step):
    facts = Step(samples=32, **step) if step else None
    survey = Survey(
        sites=(),
        known=Needs.LOSS,
        loss=loss,
        step=facts,
        output=output,
        optimizer=optimizer,
    )
    return list(findings(sum_reduced_loss, survey))


def severity(*args, **facts):
    return [f.severity.name for f in told(*args, **facts)]


RISES, FALLS, LEAPS = (5.0, 5.1, 5.2), (5.0, 4.9, 5.0), (5.0, 9.0, 4.9)


@pytest.mark.parametrize(
    ("step", "severities"),
    [
        ({}, ["INFO"]),  # no optimiser to try
        ({"curvature": 2.1, "losses": RISES}, ["WARNING"]),
        ({"curvature": 1.9, "losses": RISES}, ["INFO"]),
        ({"curvature": 2.1, "losses": FALLS}, ["INFO"]),
        ({"curvature": 2.1, "losses": LEAPS}, ["INFO"]),
        ({"curvature": 63.0, "losses": RISES}, ["WARNING"]),
        # too long for the mean as well: the sum is not what is wrong
        ({"curvature": 65.0, "losses": RISES}, ["INFO"]),
    ],
)
def test_edges(step, severities):
    assert severity(**step) == severities


def test_the_step_of_adam_is_no_longer_for_the_sum():
    (finding,) = told(optimizer=ADAM, curvature=9.0, losses=RISES)
    assert (finding.severity.name, finding.evidence) == ("INFO", {"batch": 32})


@pytest.mark.parametrize(
    ("optimizer", "times"), [(torch.optim.SGD, 32), (torch.optim.Adam, 1)]
)
def test_only_of_plain_steps_is_the_sum_so_many_times_as_long(optimizer, times):
    x, y = normal(32, 8), torch.arange(32) % 5

    def length(reduction):
        model = mlp(8, 16, 5)
        loss = nn.CrossEntropyLoss(reduction=reduction)
        made = optimizer(model.parameters(), lr=1e-4)
        survey = measure(model, x, targets=y, loss=loss, optimizer=made)
        return survey.step.curvature, list(findings(sum_reduced_loss, survey))

    (summed, (finding,)), (mean, none) = length("sum"), length("mean")
    assert not none
    assert summed == pytest.approx(times * mean, rel=0.1)
    assert finding.evidence.get("mean", mean) == pytest.approx(mean, rel=0.1)


@pytest.mark.parametrize(("loss", "kind"), [(0.51, "WARNING"), (0.49, "INFO")])
def test_a_rate_with_which_half_is_learnt_was_set_for_the_sum(loss, kind):
    nothing = np.zeros(1)
    output = Output(
        site=None,
        loss=loss,
        shifted=0.0,
        zero=1.0,
        constant=1.0,
        floor=0.0,
        shift=nothing,
        best=nothing,
        mean_output=nothing,
    )
    assert severity(output=output, curvature=9.0, losses=RISES) == [kind]


@pytest.mark.parametrize("facts", [{"reduction": "mean"}, {"batch": 1}])
def test_no_sum(facts):
    assert severity(replace(SUM, **facts), curvature=9.0, losses=RISES) == []


@pytest.mark.parametrize(
    ("loss", "fires"),
    [
        (nn.CrossEntropyLoss(reduction="sum"), True),
        (lambda o, y: functional.cross_entropy(o, y, reduction="none").sum(), True),
        (nn.CrossEntropyLoss(), False),
        (nn.CrossEntropyLoss(torch.arange(1.0, 6.0)), False),
        # over the units of a sample, and a mean over samples
        (lambda o, y: (o - y[:, None]).square().sum(1).mean(), False),
    ],
)
def test_sums_over_samples(loss, fires):
    assert bool(asked(sum_reduced_loss, loss, normal(64, 5), CLASSES)) is fires
