"""The moments of what each scheme draws meet its target within four standard errors."""

from math import sqrt

import pytest
import torch
from torch import nn

from nets import seeded
from plumbob.design.init import gain, he, normal, orthogonal, xavier
from plumbob.survey.layers import layers
from plumbob.survey.trace import module_sites


def layer_of(module):
    holder = nn.Sequential(module)
    found, _ = layers(holder, module_sites(holder))
    return found["0"]


class Conv1D(nn.Module):  # as Hugging Face lays it out
    def __init__(self, out, fan_in):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fan_in, out))
        self.bias = nn.Parameter(torch.zeros(out))


# the module, and its fans counted by hand
SHAPES = {
    "linear": (lambda: nn.Linear(96, 200), 96, 200),
    "conv": (lambda: nn.Conv2d(8, 16, 5), 8 * 25, 16 * 25),
    "grouped": (lambda: nn.Conv2d(32, 64, 3, groups=4), 8 * 9, 16 * 9),
    "strided": (lambda: nn.Conv2d(8, 32, 4, stride=2), 8 * 16, 32 * 16 / 4),
    "turned": (lambda: nn.ConvTranspose2d(8, 32, 4, stride=2), 8 * 16 / 4, 32 * 16),
    "turned, grouped": (lambda: nn.ConvTranspose1d(64, 32, 6, groups=2), 192, 96),
    "transposed": (lambda: Conv1D(200, 96), 96, 200),
    "half": (lambda: nn.Linear(96, 200, dtype=torch.bfloat16), 96, 200),
}


def check(W, sd, kurtosis):
    """Compare mean and second moment with N(0, sd^2) or a uniform distribution."""
    n, z = W.numel(), W.double() / sd
    assert abs(float(z.mean())) < 4 / sqrt(n)
    assert abs(float(z.square().mean()) - 1) < 4 * sqrt((kurtosis - 1) / n)
    assert float(z.pow(4).mean()) == pytest.approx(kurtosis, rel=0.15)


@pytest.mark.parametrize("name", SHAPES)
def test_fans_are_counted(name):
    make, fan_in, fan_out = SHAPES[name]
    assert layer_of(make()).fans() == (fan_in, fan_out)


@pytest.mark.parametrize("name", SHAPES)
def test_xavier(name):
    make, fan_in, fan_out = SHAPES[name]
    layer = layer_of(make())
    said = xavier(layer, generator=seeded())
    sd = sqrt(2 / (fan_in + fan_out))
    check(layer.weight.detach(), sd, 1.8)
    assert f"{sd:.4g}" in said
    assert float(layer.weight.detach().abs().max()) <= sd * sqrt(3) * 1.01


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    ("activation", "slope", "factor"),
    [
        ("relu", 0.01, sqrt(2)),
        ("leaky_relu", 0.2, sqrt(2 / 1.04)),
        ("tanh", 0.01, 1.5925),
        ("linear", 0.01, 1),
    ],
)
def test_he(name, activation, slope, factor):
    make, fan_in, _ = SHAPES[name]
    layer = layer_of(make())
    said = he(layer, generator=seeded(1), activation=activation, slope=slope)
    check(layer.weight.detach(), factor / sqrt(fan_in), 3)
    assert f"gain {factor:.4g}" in said


def test_gains_of_activations_that_torch_has_none_for():
    """Oracle: 4 million draws, standard error below 1e-3 of the gain."""
    z = torch.randn(4_000_000, generator=seeded())
    functions = {
        "gelu": nn.GELU(),
        "silu": nn.SiLU(),
        "elu": nn.ELU(),
        "mish": nn.Mish(),
    }
    for name, phi in functions.items():
        oracle = float(phi(z).square().mean()) ** -0.5
        assert gain(name) == pytest.approx(oracle, rel=2e-3)
    assert gain("selu") == pytest.approx(1, abs=1e-6)
    assert gain("relu") == pytest.approx(nn.init.calculate_gain("relu"))
    slope = nn.init.calculate_gain("leaky_relu", 0.3)
    assert gain("leaky_relu", 0.3) == pytest.approx(slope)


def test_normal_and_the_row_of_padding():
    table = layer_of(nn.Embedding(50, 300, padding_idx=7))
    assert "row 7" in normal(table, generator=seeded(), sd=0.5)
    W = table.weight.detach()
    assert not W[7].any()
    check(torch.cat([W[:7], W[8:]]), 0.5, 3)


@pytest.mark.parametrize(("out", "fan_in"), [(30, 50), (50, 30), (40, 40)])
def test_orthogonal_has_all_singular_values_alike(out, fan_in):
    layer = layer_of(nn.Linear(fan_in, out))
    orthogonal(layer, generator=seeded(), gain=2.0)
    values = torch.linalg.svdvals(layer.weight.detach())
    torch.testing.assert_close(values, torch.full_like(values, 2.0))


def test_parts_and_groups_are_orthogonal_by_themselves():
    layer = layer_of(nn.Linear(10, 40))
    assert "each of 4 parts" in orthogonal(layer, generator=seeded(), parts=4)
    for W in layer.weight.detach().chunk(4):
        torch.testing.assert_close(W @ W.T, torch.eye(10), atol=1e-5, rtol=0)
    conv = layer_of(nn.Conv1d(8, 12, 3, groups=4))
    orthogonal(conv, generator=seeded())
    for W in conv.matrix().chunk(4):
        torch.testing.assert_close(W @ W.T, torch.eye(3), atol=1e-5, rtol=0)


def test_orthogonal_matrices_are_drawn_uniformly():
    """E[trace] = 0 and E[trace^2] = 1 for Haar's measure; QR alone is below 0."""
    layer = layer_of(nn.Linear(4, 4))
    generator = seeded()
    traces = []
    for _ in range(600):
        orthogonal(layer, generator=generator)
        traces.append(float(layer.weight.detach().trace()))
    t = torch.tensor(traces)
    assert abs(float(t.mean())) < 4 / sqrt(600)
    assert abs(float(t.square().mean()) - 1) < 4 * sqrt(2 / 600)


def test_xavier_of_a_part_has_the_fan_out_of_a_part():
    layer = layer_of(nn.Linear(100, 300))
    xavier(layer, generator=seeded(), parts=3)
    check(layer.weight.detach(), sqrt(2 / 200), 1.8)
