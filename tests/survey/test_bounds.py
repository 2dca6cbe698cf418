import numpy as np
import pytest
import torch
from torch import nn

from plumbob.survey.bounds import ceilings
from plumbob.survey.graph import export
from theorems import normals


def bounds(model, *data):
    return ceilings(model, export(model.eval(), data, {}, training=False))


def oracle(layer, low, high):
    """The best corner, weight by weight."""
    w = layer.weight.detach().double().reshape(len(layer.weight), -1)
    best = torch.maximum(w * low, w * high).sum(1)
    return (best + layer.bias.double()).detach().numpy()


@pytest.mark.parametrize(
    ("between", "low", "high"),
    [(nn.Sigmoid(), 0.0, 1.0), (nn.Tanh(), -1.0, 1.0), (nn.Softmax(-1), 0.0, 1.0)],
)
def test_the_best_corner_of_a_box(between, low, high):
    model = nn.Sequential(nn.Linear(4, 6), between, nn.Linear(6, 5), nn.ReLU())
    found = bounds(model, normals(3, 4))
    assert set(found) == {"2"}
    np.testing.assert_allclose(found["2"], oracle(model[2], low, high))


def test_after_relu_only_units_without_a_positive_weight_are_bounded():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU())
    model[2].weight.data[1].abs_().neg_()
    high = bounds(model, normals(3, 4))["2"]
    assert high[1] == pytest.approx(model[2].bias[1].item())
    assert np.isposinf(np.delete(high, 1)).all()


def test_a_layer_norm_has_a_reach():
    norm = nn.LayerNorm(6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    model = nn.Sequential(norm, nn.Linear(6, 5), nn.ReLU())
    found = bounds(model, normals(3, 6))["1"]
    x = torch.cat([1e3 * torch.randn(5000, 6), 1e6 * torch.eye(6), -1e6 * torch.eye(6)])
    seen = model[1](norm(x)).max(0).values.detach().numpy()
    assert (seen <= found + 1e-5).all()


def test_zeros_of_the_border_count():
    conv = nn.Conv2d(2, 3, 3, padding=1)
    conv.weight.data.abs_().neg_()
    conv.bias.data.fill_(0.5)
    first = nn.Conv2d(2, 2, 1)
    model = nn.Sequential(first, nn.Sigmoid(), conv, nn.ReLU())
    np.testing.assert_allclose(bounds(model, torch.randn(1, 2, 5, 5))["2"], 0.5)


def test_a_table_has_finitely_many_rows():
    table = nn.Embedding(7, 4)
    model = nn.Sequential(table, nn.Linear(4, 5), nn.ReLU())
    low, high = table.weight.min().double(), table.weight.max().double()
    found = bounds(model, torch.zeros(2, 3, dtype=torch.long))["1"]
    np.testing.assert_allclose(found, oracle(model[1], low, high))


def test_nothing_is_known_of_the_input():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
    assert bounds(model, normals(3, 4)) == {}


class Twice(nn.Module):
    """A map used on bounded values and on the input."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        return self.a(self.a(x).sigmoid()).relu()


def test_a_use_that_is_not_bounded_counts():
    assert bounds(Twice(), normals(3, 4)) == {}
