from math import inf

import pytest
import torch
from torch.nn import functional

from plumbob.survey.wanted import LEAST, bounds, numbers, wanted
from plumbob.types import Act

GRID = torch.linspace(-30, 30, 6001, dtype=torch.float64)


@pytest.mark.parametrize(
    ("names", "low", "high"),
    [
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
        ("relu", 0, inf),
        ("relu6", 0, 6),
        ("softplus", 0, inf),
        ("exp", 0, inf),
        ("hardsigmoid", 0, 1),
        ("softsign", -1, 1),
        ("relu sigmoid", 0.5, 1),
        ("sigmoid sigmoid", 0.5, 1 / (1 + torch.tensor(-1.0).exp().item())),
        ("tanh relu", 0, 1),
        ("sigmoid log", -inf, 0),
        ("leaky_relu", -inf, inf),
        ("unknown", -inf, inf),
    ],
)
def test_bounds_of_rows_of_activations(names, low, high):
    acts = [Act(name=name) for name in names.split()]
    assert bounds(acts) == pytest.approx((low, high))


@pytest.mark.parametrize("name", ["gelu", "hardswish", "mish", "silu"])
def test_no_value_falls_below_the_bound(name):
    low, high = bounds([Act(name=name)])
    least = float(getattr(functional, name)(GRID).min())
    assert low <= least < low + 0.01
    assert high == inf


@pytest.mark.parametrize("size", [2, 10])
def test_a_second_softmax_is_bounded(size):
    one = Act(name="softmax", size=size)
    hot = torch.eye(size, dtype=torch.float64)[:1].softmax(-1)
    assert bounds([one]) == (0, 1)
    assert bounds([one, one])[1] == pytest.approx(float(hot.max()))
    cold = 1 - torch.eye(size, dtype=torch.float64)[:1]
    assert bounds([one, one])[0] == pytest.approx(float(cold.softmax(-1).min()))


def test_a_softmax_over_one_is_one_and_its_logarithm_nought():
    assert bounds([Act(name="softmax", size=1)]) == (1, 1)
    assert bounds([Act(name="log_softmax", size=1)]) == (0, 0)


def kind(targets, *shape):
    found = wanted(targets, torch.zeros(shape), None)
    assert found is not None
    return found.kind, found.classes


def test_the_kinds_of_targets():
    labels = torch.arange(12) % 3
    assert kind(labels, 12, 3) == ("classes", 3)
    assert kind(labels.float(), 12, 3) == ("classes", 3)
    assert kind(labels.view(2, 6), 2, 3, 6) == ("classes", 3)
    assert kind(labels % 2, 12, 1) == ("binary", 0)
    assert kind(labels, 12, 1) == ("real", 0)
    assert kind(torch.eye(3).repeat(4, 1), 12, 3) == ("one-hot", 3)
    assert kind(torch.ones(12, 3), 12, 3) == ("multilabel", 0)
    assert kind(torch.randn(12, 3), 12, 3) == ("real", 0)
    assert kind(torch.randn(12), 12, 3) == ("", 0)
    assert kind(labels, 7, 3) == ("", 0)
    assert wanted((labels, labels), None, None) is None
    assert wanted(None, None, None) is None


def test_numbers_are_of_the_finite_values():
    x = torch.tensor([[1.0, 2.0], [3.0, float("nan")], [5.0, 6.0]])
    found = numbers("x", x)
    assert (found.samples, found.nonfinite, found.low, found.high) == (3, 1, 1, 6)
    assert found.mean == pytest.approx(3.4)
    assert found.feature_sd is None
    found = numbers("x", x.bfloat16()[::2])
    assert found.feature_sd.tolist() == [2, 2]
    assert found.whole
    assert numbers("x", torch.tensor(2.5)).shape == ()


@pytest.mark.parametrize("name", ["gelu", "hardswish", "mish", "silu"])
def test_nothing_is_below_the_least_that_an_activation_gives(name):
    x = torch.linspace(-8, 8, 200_001, dtype=torch.float64)
    kinds = {"approximate": "tanh"} if name == "gelu" else {}
    low = float(getattr(torch.nn.functional, name)(x, **kinds).min())
    assert LEAST[name] == pytest.approx(low, abs=1e-3)
    assert low >= LEAST[name]
