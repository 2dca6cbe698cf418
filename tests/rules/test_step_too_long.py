from math import inf, nan

import numpy as np
import pytest
import torch
from torch import nn

import plumbob
from nets_optimizer import step_too_long as case
from plumbob.rule import findings
from plumbob.rules.step_too_long import step_too_long
from plumbob.survey.measure import measure
from plumbob.types import Move, Needs, Optimizer, Output, Severity, Step, Survey

SGD = Optimizer(name="SGD", steps=0, groups=())


def move(change):
    return Move(pulled=1, still=0, broken=0, change=change, size=1.0)


def severity(*losses, curvature=9.0, leap=0.1, constant=1.0):
    output = Output(
        site=None,
        loss=losses[0],
        shifted=0.0,
        zero=0.0,
        constant=constant or 0.0,
        shift=np.zeros(1),
        best=np.zeros(1),
        mean_output=np.zeros(1),
    )
    survey = Survey(
        sites=(),
        known=Needs.STEP | Needs.OPTIMIZER,
        optimizer=SGD,
        output=output if constant else None,
        step=Step(
            samples=8, losses=losses, curvature=curvature, moves={"w": move(leap)}
        ),
    )
    found = [f.severity for f in findings(step_too_long, survey)]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("losses", "facts", "expected"),
    [
        ((1, 8, 9, 7, 6), {}, Severity.WARNING),
        ((1, 8, 9, 1.51, 6), {}, Severity.WARNING),
        ((1, 8, 9, 1.49, 6), {}, None),  # it comes back, as after a catapult
        ((1, 8, 9, 7, 6), {"curvature": 1.99}, None),
        ((1, 8, 9, 7, 6), {"constant": 4.01}, None),  # better than a constant still
        ((1, 8, 9, 7, 6), {"constant": None}, Severity.INFO),
        ((1, 8), {}, Severity.INFO),  # one step alone may be a catapult's first
        # thrown to where it is a constant, and rests there
        ((1, 10.1, 2, 0.96, 0.96, 0.96), {}, Severity.WARNING),
        ((1, 9.9, 2, 0.96, 0.96, 0.96), {}, None),
        ((1, 10.1, 2, 0.94, 0.94, 0.94), {}, None),
        ((1, 10.1, 2, 1.2, 1, 0.96), {}, None),  # it is still on its way down
        ((1, 8, nan), {}, Severity.ERROR),
        ((1, inf), {}, Severity.ERROR),
        ((1, nan), {"curvature": 0.0}, None),  # a division by 0, say
        ((1, nan), {"curvature": 0.0, "leap": 1.01}, Severity.ERROR),
        ((nan, nan), {}, None),
        ((-1, 8, 9, 7, 6), {}, None),  # a scale without a zero
        ((), {}, None),
    ],
)
def test_the_loss_must_stay_high_behind_a_step_beyond_the_parabola(
    losses, facts, expected
):
    losses = tuple(map(float, losses))
    assert (severity(*losses, **facts) if losses else None) is expected


def test_the_remedy_sets_a_rate_that_trains():
    leans = case(leans=True)
    report = plumbob.check(**leans, select="PB503")
    (found,) = report.findings
    assert found.severity is Severity.ERROR
    _, sgd = plumbob.apply(report, leans["model"], optimizer=leans["optimizer"])
    assert sgd.param_groups[0]["lr"] == pytest.approx(100 / 64)
    assert leans["optimizer"].param_groups[0]["lr"] == 100


@pytest.mark.parametrize("rate", [0.9, 1.1])
def test_on_a_parabola_the_edge_is_where_theory_has_it(rate):
    """Loss c w^2 / 2, c = 4: plain SGD diverges from lr = 2 / c on."""
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(1.0)
    x, y = torch.full((8, 1), 2.0), torch.zeros(8, 1)
    survey = measure(
        net,
        x,
        targets=y,
        loss=lambda out, target: (out - target).square().mean() / 2,
        optimizer=torch.optim.SGD(net.parameters(), lr=rate * 0.5),
    )
    assert survey.step.curvature == pytest.approx(2 * rate, rel=1e-4)
    assert (survey.step.losses[-1] > survey.step.losses[0]) is (rate > 1)
