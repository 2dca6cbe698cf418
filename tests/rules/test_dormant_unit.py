from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hand import one
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.dormant_unit import dormant_unit
from plumbob.survey.measure import measure
from plumbob.types import Activity, Severity


def layer(spread, slope, samples=100, **site):
    units = len(spread)
    z = np.linspace(-1, 1, samples)[:, None] + np.zeros(units)
    survey = one(z, **{"activation": "gelu"} | site)
    act = Activity(
        median=np.zeros(units), spread=np.array(spread), slope=np.array(slope)
    )
    reading = replace(survey.readings["fc1"], activity=act)
    return list(findings(dormant_unit, replace(survey, readings={"fc1": reading})))


@pytest.mark.parametrize(("dormant", "fires"), [(4, False), (5, True)])
def test_half_of_the_layer(dormant, fires):
    told = layer([1e-6] * dormant + [1.0] * (10 - dormant), [0.5] * 10)
    assert [f.units for f in told] == ([tuple(range(dormant))] if fires else [])
    assert all(f.severity is Severity.INFO for f in told)  # small, not flat


@pytest.mark.parametrize(
    ("flat", "severity"), [(8, Severity.INFO), (9, Severity.WARNING)]
)
def test_nine_tenths_flat_are_a_warning(flat, severity):
    told = layer([0.0] * flat + [1.0] * (10 - flat), [0.0] * flat + [0.5] * (10 - flat))
    assert [f.severity for f in told] == [severity]


@pytest.mark.parametrize(("spread", "fires"), [(0.0125, True), (0.0132, False)])
def test_the_score_of_sokar_et_al(spread, fires):
    """A unit's spread over the layer's mean: 0.025 at 0.0127 beside 1."""
    assert bool(layer([spread, 1.0], [0.5, 0.5])) is fires


@pytest.mark.parametrize(
    "site",
    [
        {"activation": "relu"},
        {"activation": "softplus"},
        {"is_output": True},
        {"gates": True},
    ],
)
def test_what_is_not_judged(site):
    assert not layer([0.0] * 9 + [1.0], [0.0] * 9 + [0.5], **site)


def test_few_samples_give_no_verdict():
    assert not layer([0.0] * 9 + [1.0], [0.0] * 9 + [0.5], samples=28)


def test_curves_flat_on_both_sides_are_not_called_flat():
    told = layer([0.0] * 9 + [1.0], [0.0] * 9 + [0.5], activation="tanh")
    assert told[0].evidence["flat"] == 0
    assert told[0].severity is Severity.INFO


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, nn.ELU, nn.Mish])
def test_layers_thrown_out_by_their_bias(activation):
    model = mlp(8, 16, 2, activation=activation)
    x = torch.randn(256, 8, generator=seeded())
    assert not list(findings(dormant_unit, measure(model, x)))
    model[0].bias.data.fill_(-15)
    (told,) = findings(dormant_unit, measure(model, x))
    assert told.severity is Severity.WARNING
    assert told.evidence["by_bias"] == 16
    assert told.remedy.act == "set-bias"


def test_small_rows_are_drawn_anew():
    model = mlp(8, 16, 2, activation=nn.GELU)
    model[0].weight.data[:10] *= 1e-4
    x = torch.randn(256, 8, generator=seeded())
    (told,) = findings(dormant_unit, measure(model, x))
    assert (told.severity, told.remedy.act) == (Severity.INFO, "redraw-units")
    assert told.evidence["small"] == 10


class Noisy(nn.Module):
    """A deviation begun at softplus(-5) beside a mean, as of a latent code."""

    def __init__(self):
        super().__init__()
        self.body, self.mean, self.scale, self.out = (
            nn.Linear(a, b) for a, b in ((8, 16), (16, 4), (16, 4), (4, 2))
        )
        self.scale.bias.data.fill_(-5)

    def forward(self, x):
        h = self.body(x).tanh()
        noise = torch.randn(len(x), 4)
        return self.out(self.mean(h) + nn.functional.softplus(self.scale(h)) * noise)


class Selective(nn.Module):
    """Steps of 1e-3 to 1e-2 at which a state decays, as of a state-space model."""

    def __init__(self):
        super().__init__()
        self.dt, self.out = nn.Linear(8, 16), nn.Linear(16, 2)
        self.decay = nn.Parameter(-torch.arange(1.0, 17))
        step = torch.logspace(-3, -2, 16)
        self.dt.bias.data = step.expm1().log()

    def forward(self, x):
        dt = nn.functional.softplus(self.dt(0.1 * x))
        return self.out((dt * self.decay).exp())


@pytest.mark.parametrize("net", [Noisy, Selective])
def test_a_small_scale_is_not_dormant(net):
    torch.manual_seed(0)
    x = torch.randn(256, 8, generator=seeded())
    assert not list(findings(dormant_unit, measure(net(), x)))
