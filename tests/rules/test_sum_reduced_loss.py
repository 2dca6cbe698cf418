from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from asking import found as asked
from asking import normal
from netting import seeded
from plumbob.rule import findings
from plumbob.rules.sum_reduced_loss import sum_reduced_loss
from plumbob.types import Loss, Needs, Output, Step, Survey

CLASSES = torch.randint(5, (64,), generator=seeded(1))
SUM = Loss(samples=64, batch=32, units=5, reduction="sum")


def severity(loss=SUM, output=None, **step):
    facts = Step(samples=32, **step) if step else None
    survey = Survey(sites=(), known=Needs.LOSS, loss=loss, step=facts, output=output)
    return [f.severity.name for f in findings(sum_reduced_loss, survey)]


RISES, FALLS = (5.0, 5.1, 1.0), (5.0, 4.9, 5.0)


@pytest.mark.parametrize(
    ("step", "severities"),
    [
        ({}, ["INFO"]),  # no optimiser to try
        ({"curvature": 2.1, "losses": RISES}, ["WARNING"]),
        ({"curvature": 1.9, "losses": RISES}, ["INFO"]),
        ({"curvature": 2.1, "losses": FALLS}, ["INFO"]),
        ({"curvature": 63.0, "losses": RISES}, ["WARNING"]),
        # too long for the mean as well: the sum is not what is wrong
        ({"curvature": 65.0, "losses": RISES}, ["INFO"]),
    ],
)
def test_edges(step, severities):
    assert severity(**step) == severities


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
