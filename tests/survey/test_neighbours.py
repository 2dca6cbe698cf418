"""What follows a map, however it is written."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tracing import feeds, traced


class Followed(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 3, 1), nn.Linear(3 * 4, 2)
        self.function = function

    def forward(self, x):
        return self.head(self.function(self.conv(x)).flatten(1))


def follows(function, *, size=2, training=True):
    _, found = traced(
        Followed(function), torch.randn(4, 2, size, size), training=training
    )
    assert feeds(found["conv"]) == {"head": 4}
    return found["conv"].activation


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: torch.maximum(x, torch.zeros_like(x)), "relu"),
        (lambda x: x * (x > 0), "relu"),
        (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), "relu"),
        (lambda x: functional.threshold(x, 0.0, 0.0), "relu"),
        (lambda x: (x + x.abs()) / 2, "relu"),
        (lambda x: x.clamp(0, 6), "relu6"),
        (lambda x: functional.hardtanh(x, 0.0, 6.0), "relu6"),
        (functional.hardtanh, "hardtanh"),
        (functional.softsign, "softsign"),
        (lambda x: torch.where(x > 0, x, 0.01 * x), "leaky_relu"),
        (lambda x: functional.threshold(x, 0.5, 0.0), None),
    ],
)
def test_an_activation_is_known_by_its_values(function, name):
    assert follows(function) == name


@pytest.mark.parametrize("training", [True, False])
def test_a_mask_on_whole_channels_is_a_dropout(training):
    def drop(x):
        return functional.dropout2d(x, 0.1, training).relu()

    assert follows(drop, training=training) == "relu"


def test_the_largest_of_a_window_fires_where_any_of_it_does():
    assert follows(lambda x: functional.max_pool2d(x, 2).relu(), size=4) == "relu"
    assert follows(lambda x: functional.avg_pool2d(x, 2).relu(), size=4) is None


@pytest.mark.parametrize("affine", [True, False])
def test_behind_a_batch_norm_the_input_is_not_read_as_it_comes(affine):
    model = nn.Sequential(nn.BatchNorm1d(3, affine=affine), nn.Linear(3, 2))
    _, found = traced(model, torch.randn(5, 3))
    assert not found["1"].reads_input


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x > 0,
        lambda x: 1 - (x > 0).float(),
        lambda x: torch.where(x > 0, x, torch.ones_like(x)).long(),
    ],
)
def test_a_comparison_is_no_activation(function):
    model = nn.Sequential(nn.Linear(3, 4))
    model.forward = lambda x: function(model[0](x))
    _, found = traced(model, torch.randn(5, 3))
    assert found["0"].activation is None


class Offset(nn.Module):
    def __init__(self, shape, function, bias=True):
        super().__init__()
        self.fc, self.norm = nn.Linear(3, 4, bias=bias), nn.LayerNorm(4)
        self.b, self.function = nn.Parameter(torch.ones(shape)), function

    def forward(self, x):
        return self.function(self, self.fc(x))


@pytest.mark.parametrize(
    ("shape", "bias", "known"),
    [(4, True, (None, "fc.bias")), (1, False, (None, None)), (4, False, ("relu", "b"))],
)
def test_only_the_bias_may_lie_between_a_map_and_its_activation(shape, bias, known):
    model = Offset(shape, lambda m, z: (z + m.b).relu(), bias)
    _, found = traced(model, torch.randn(5, 3))
    assert (found["fc"].activation, found["fc"].bias) == known


def test_a_norm_is_found_behind_positions():
    model = Offset((5, 4), lambda m, z: m.norm(z + m.b).relu())
    _, found = traced(model, torch.randn(2, 5, 3))
    assert (found["fc"].norm, found["fc"].activation) == ("layer-norm", None)
    assert found["norm"].activation == "relu"
