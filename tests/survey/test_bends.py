"""What bends besides the activations of sites, and which activations are gates."""

import pytest
import torch
from torch import nn

from plumbob.survey.trace import export, structure
from theorems import Attend
from tracing import where


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 3)
        self.function = function

    def forward(self, x):
        return self.last(self.function(self.first(x)))


def bends(model, x):
    return structure(model, export(model, (x,), {}, training=False))[1]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (torch.relu, ()),
        (lambda x: x.clamp(min=0), ()),
        (lambda x: x * torch.sigmoid(x), ()),
        (lambda x: torch.cat([2 * x[:, :4] + 1, -x[:, 4:] / 3], 1), ()),
        (lambda x: x + x.relu(), ("relu",)),
        (lambda x: torch.softmax(x.relu(), -1), ("softmax",)),
        (lambda x: (x + 1).relu() * x, ("relu", "mul")),
        (lambda x: x**2, ("pow",)),
    ],
)
def test_what_is_no_sites_activation(function, expected):
    assert bends(Apply(function), torch.randn(4, 8)) == expected


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ((nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2)), ()),
        ((nn.ReLU(), nn.MaxPool2d(2)), ("max_pool2d",)),
        ((nn.GroupNorm(2, 4), nn.ReLU()), ("group_norm",)),
    ],
)
def test_norms_and_pools(layers, expected):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), *layers, nn.Conv2d(4, 2, 1)).eval()
    assert bends(model, torch.randn(4, 2, 8, 8)) == expected


def test_attention_bends():
    assert bends(Attend().eval(), torch.randn(2, 5, 16))


class Gated(nn.Module):
    """A highway layer."""

    def __init__(self):
        super().__init__()
        self.gate, self.inside, self.last = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        t = torch.sigmoid(self.gate(x))
        return self.last(t * torch.tanh(self.inside(x)) + (1 - t) * x).sigmoid() * 2


def test_gates():
    model = Gated()
    found, _ = structure(model, export(model, (torch.randn(4, 8),), {}, training=True))
    sites = {site.name: site for site in found}
    assert where(sites, "gates") == {"gate", "inside"}  # each multiplies the other
    plain = Apply(nn.Sequential(nn.Sigmoid(), nn.Dropout()))
    found, _ = structure(plain, export(plain, (torch.randn(4, 8),), {}, training=True))
    assert not any(site.gates for site in found)
