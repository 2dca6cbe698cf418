import numpy as np
import pytest
import torch
from torch import nn

from plumbob.survey.bounds import named
from plumbob.survey.graph import export
from plumbob.survey.hidden import ancestors, hidden, spread


def found(model, *shape):
    graph = export(model.eval(), (torch.randn(shape),), {}, training=False)
    return {each.use.weight.name: each for each in hidden(graph)}, graph


def readers(each):
    return [(use.weight.name, width) for use, width in each.readers]


def test_channels_become_columns():
    layers = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(), nn.Linear(36, 5))
    each, _ = found(model, 3, 2, 8, 8)
    assert readers(each["0.weight"]) == [("6.weight", 9)]
    assert [width for _, width in each["0.weight"].norms] == [1]
    assert not each["0.weight"].obstacles
    assert each["6.weight"].obstacles == ("its units are read by the caller",)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.gate, self.out = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        return self.out(self.a(x) * self.gate(x).sigmoid())


def test_a_product_is_in_the_way():
    each, graph = found(Gated(), 3, 4)
    assert each["a.weight"].obstacles == ("its units are read by mul",)
    out = next(n for n in graph.module.graph.nodes if n.name in graph.outputs)
    assert {"a.weight", "gate.bias", "out.weight"} <= ancestors(out, graph)
    (first, *_) = each["a.weight"].use.node.users
    assert "out.weight" not in ancestors(first, graph)


class Turned(nn.Module):
    """What is read is another axis than that of the units."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.b(self.a(x).mT)


def test_the_axis_counts():
    each, _ = found(Turned(), 3, 5, 4)
    assert readers(each["a.weight"]) == []
    assert each["a.weight"].obstacles == ("its units are read by linear",)


@pytest.mark.parametrize("groups", [1, 2])
def test_groups_are_in_the_way(groups):
    model = nn.Sequential(
        nn.Conv1d(2, 4, 1), nn.ReLU(), nn.Conv1d(4, 2, 1, groups=groups)
    )
    each, _ = found(model, 3, 2, 5)
    assert bool(each["0.weight"].obstacles) is (groups == 2)


def test_values_spread_unit_by_unit():
    model = nn.Sequential(
        nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1)
    )
    model[1].running_mean = torch.tensor([1.0, 0.0, -5.0])
    model[1].weight.data = torch.tensor([1.0, -1.0, 0.0])
    model[1].bias.data = torch.tensor([0.0, 0.0, 0.25])
    each, graph = found(model, 3, 2)
    unit = each["0.weight"]
    z = np.array([-2.0, -2.0, -np.inf]), np.array([0.5, 0.5, np.inf])
    at = spread(unit, z, named(model, graph))
    low, high = at[unit.readers[0][0].reads]
    scale = (1 + 1e-5) ** -0.5
    np.testing.assert_allclose(low, [0, 0, 0.25])
    np.testing.assert_allclose(high, [0, 2 * scale, 0.25])
