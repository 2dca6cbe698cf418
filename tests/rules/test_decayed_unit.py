from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hand import rows_of
from plumbob.judge import judge
from plumbob.rule import findings
from plumbob.rules.decayed_unit import decayed_unit
from plumbob.settings import Settings
from plumbob.survey.weights import weigh
from plumbob.types import (
    Feed,
    Group,
    Needs,
    Optimizer,
    Reading,
    Severity,
    Site,
    Stage,
)


def judged(survey):
    return list(findings(decayed_unit, survey))


def sized(units, small, size):
    return np.r_[np.full(small, size), np.ones(units - small)]


def layer(row, reader, units=20, small=1, **site):
    return rows_of(
        twin=np.arange(units),
        norm=sized(units, small, row),
        outgoing=sized(units, small, reader),
        **site,
    )


RMS = (19 / 20) ** 0.5  # of 19 units of size 1 and one of nearly 0, to 1e-4
LIMIT = RMS / 32


@pytest.mark.parametrize(
    ("row", "reader", "fires"),
    [
        (0.99 * LIMIT, 0.99 * LIMIT, True),
        (1.01 * LIMIT, 1e-6, False),  # the same function as a larger row, if a ReLU's
        (1e-6, 1.01 * LIMIT, False),
        (0, 1e-6, False),  # exact zeros are PB103's
        (1e-6, 0, False),
    ],
)
def test_both_sides_must_have_shrunk(row, reader, fires):
    assert bool(judged(layer(row, reader))) == fires


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_scale_of_the_layer_is_free(scale):
    (found,) = judged(layer(1e-3, 1e-3))
    survey = layer(1e-3, 1e-3)
    rows = survey.readings["fc1"].rows
    scaled = replace(rows, norm=rows.norm * scale, outgoing=rows.outgoing / scale)
    (same,) = judged(replace(survey, readings={"fc1": Reading(rows=scaled)}))
    assert found.units == same.units == (0,)


@pytest.mark.parametrize(
    ("small", "severity"), [(18, Severity.INFO), (37, Severity.WARNING)]
)
def test_severity_follows_the_share(small, severity):
    (found,) = judged(layer(1e-3, 1e-3, units=40 if small > 20 else 20, small=small))
    assert found.severity is severity


@pytest.mark.parametrize("alive", [1, 2, 3, 6])
def test_as_long_as_one_unit_lives(alive):
    (found,) = judged(layer(1e-3, 1e-3, units=64, small=64 - alive))
    assert found.severity is Severity.WARNING
    assert found.evidence["decayed"] == 64 - alive
    assert found.evidence["row_size"] == pytest.approx((alive / 64) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(("size", "fires"), [(100, False), (255, False), (300, True)])
def test_an_outlier_makes_no_decay_of_the_others(size, fires):
    assert bool(judged(layer(1 / size, 1 / size, units=64, small=63))) == fires


@pytest.mark.parametrize(
    ("groups", "decay", "cause", "advice"),
    [
        (None, None, "as under a weight decay", "lower"),
        ([(0.1, "fc1.weight")], 0.1, "the weight decay of 0.1", "lower"),
        ([(0.0, "fc1.weight"), (0.2, "fc2.weight")], 0.2, "decay of 0.2", "lower"),
        ([(0.0, "fc1.weight", "fc2.weight"), (0.5, "?")], 0.0, "does not", "narrower"),
        ([(0.5, "?")], 0.0, "an earlier one", "narrower"),
    ],
)
def test_the_optimiser_is_blamed_only_if_it_decays_them(groups, decay, cause, advice):
    survey = layer(1e-3, 1e-3, feeds=(Feed(site="fc2", repeat=1),))
    reader = Site(name="fc2", kind="linear", out=2, fan_in=20, weight="fc2.weight")
    optimizer = groups and Optimizer(
        name="SGD",
        steps=9,
        groups=tuple(
            Group(parameters=tuple(names), lr=0.1, weight_decay=d)
            for d, *names in groups
        ),
    )
    survey = replace(survey, sites=(*survey.sites, reader), optimizer=optimizer)
    (found,) = judged(survey)
    assert found.evidence.get("weight_decay") == decay
    assert cause in found.cause
    assert advice in found.remedy.advice


def test_not_at_stage_init_and_not_without_a_graph():
    assert not judged(layer(1e-3, 1e-3, stage=Stage.INIT))
    survey = layer(1e-3, 1e-3)
    assert survey.known == Needs.WEIGHTS
    verdict = judge(survey, [decayed_unit], Settings())
    assert verdict.not_judged == {"PB106": "needs graph"}


def test_dead_units_under_weight_decay():
    """A dead unit is left to the decay: (1 - lr decay)^steps on both sides."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
    with torch.no_grad():
        net[0].bias[4] = -50
    optimizer = torch.optim.SGD(
        [{"params": [net[0].weight, net[2].weight], "weight_decay": 0.1}], lr=0.1
    )
    x = torch.randn(64, 3)
    y = x.sum(1, keepdim=True).abs()
    for _ in range(400):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x), y).backward()
        optimizer.step()
    sites = (
        Site(
            name="0",
            kind="linear",
            out=16,
            fan_in=3,
            weight="0.weight",
            bias="0.bias",
            feeds=(Feed(site="2", repeat=1),),
        ),
        Site(name="2", kind="linear", out=1, fan_in=16, weight="2.weight"),
    )
    _, rows, _ = weigh(net, sites)
    assert rows["0"].norm[4] < 3**0.5 * 0.99**400
    survey = layer(1, 1)
    survey = replace(survey, sites=sites[:1], readings={"0": Reading(rows=rows["0"])})
    (found,) = judged(survey)
    assert 4 in found.units
