"""Values whose mean is 0 once what writes them is centred: told, and true."""

import pytest
import torch
from torch import fx, nn
from torch.nn.functional import conv2d, conv_transpose2d, embedding, linear

from plumbob.survey.flow import Flow
from plumbob.survey.trace import export
from plumbob.survey.writers import writers
from theorems import normals


class Writes(nn.Module):
    def __init__(self, function, **sizes):
        super().__init__()
        self.function = function
        for name, size in sizes.items():
            self.register_parameter(name, nn.Parameter(normals(*size).double()))

    def forward(self, x):
        return self.function(self, x)


W, B = (4, 3), (4,)
X = normals(2, 5, 3).double()
IMAGE = normals(2, 4, 5, 5).double()

CASES = {
    "linear": (lambda m, x: linear(x, m.W, m.b), {"W": W, "b": B}, X, {-1}),
    "no bias": (lambda m, x: x @ m.W.T, {"W": W}, X, {-1}),
    "sum": (lambda m, x: 2 * (x @ m.W.T) - m.p / 3, {"W": W, "p": (5, 4)}, X, {-1}),
    "along another axis": (
        lambda m, x: x @ m.W.T + m.p,
        {"W": W, "p": (5, 1)},
        X,
        set(),
    ),
    "a number": (lambda m, x: x @ m.W.T + 1, {"W": W}, X, set()),
    "the input": (lambda m, x: x + linear(x, m.W), {"W": (3, 3)}, X, set()),
    "bent": (lambda m, x: linear(x, m.W).relu(), {"W": W}, X, set()),
    "gate": (lambda m, x: linear(x, m.W) * x[..., :1], {"W": W}, X, {-1}),
    "gate of units": (lambda m, x: linear(x, m.W) * m.b, {"W": W, "b": B}, X, set()),
    "rounded": (
        lambda m, x: torch.div(linear(x, m.W), 2, rounding_mode="floor"),
        {"W": W},
        X,
        set(),
    ),
    "product with a vector": (lambda m, x: x @ m.v, {"v": (3,)}, X, set()),
    "rows": (lambda m, x: m.W[(x[..., 0] > 0).long()], {"W": (2, 4)}, X, {-1}),
    "a row of all": (lambda m, x: m.v[(x > 0).long()], {"v": B}, X, set()),
    "table": (
        lambda m, x: embedding((x[..., 0] > 0).long(), m.W),
        {"W": (2, 4)},
        X,
        {-1},
    ),
    "turned": (lambda m, x: linear(x, m.W).transpose(1, 2), {"W": W}, X, {-2}),
    "permuted": (lambda m, x: linear(x, m.W).permute(2, 0, 1), {"W": W}, X, {-3}),
    "merged": (lambda m, x: linear(x, m.W).flatten(0, 1), {"W": W}, X, {-1}),
    "split": (lambda m, x: linear(x, m.W).view(2, 5, 2, 2), {"W": W}, X, set()),
    "mixed": (lambda m, x: linear(x, m.W).view(2, 4, 5), {"W": W}, X, set()),
    "half of the units": (lambda m, x: linear(x, m.W)[..., :2], {"W": W}, X, set()),
    "some places": (lambda m, x: linear(x, m.W)[:, 1:3], {"W": W}, X, {-1}),
    "one place": (lambda m, x: linear(x, m.W)[:, 1], {"W": W}, X, {-1}),
    "one unit": (lambda m, x: linear(x, m.W)[..., 1], {"W": W}, X, set()),
    "beside others": (
        lambda m, x: torch.cat([m.c.expand(2, 1, 4), linear(x, m.W)], 1),
        {"W": W, "c": (1, 1, 4)},
        X,
        {-1},
    ),
    "units side by side": (
        lambda m, x: torch.cat([linear(x, m.W)] * 2, -1),
        {"W": W},
        X,
        set(),
    ),
    "conv": (
        lambda m, x: conv2d(x, m.W, m.b, 2, 1),
        {"W": (6, 4, 3, 3), "b": (6,)},
        IMAGE,
        {-3},
    ),
    "grouped": (
        lambda m, x: conv2d(x, m.W, groups=2),
        {"W": (6, 2, 3, 3)},
        IMAGE,
        set(),
    ),
    "transposed": (
        lambda m, x: conv_transpose2d(x, m.W, m.b, 2),
        {"W": (4, 6, 3, 3), "b": (6,)},
        IMAGE,
        {-3},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_means(case):
    function, sizes, x, axes = CASES[case]
    model = Writes(function, **sizes)
    graph = export(model, (x,), {}, training=False)
    (out,) = (n for n in graph.module.graph.nodes if n.name in graph.outputs)
    assert isinstance(out, fx.Node)
    means = writers(Flow(graph)).get(out, {})
    assert set(means) == axes
    for axis, needed in means.items():
        with torch.no_grad():
            assert float(model(x).mean(axis).abs().max()) > 1e-3
            for name, along in needed:
                p = model.get_parameter(name)
                p -= p.mean(along, keepdim=True)
            assert float(model(x).mean(axis).abs().max()) < 1e-12


def test_dropout_in_training():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))
    for training, axes in ((True, set()), (False, {-1})):
        graph = export(model, (X.float(),), {}, training=training)
        (out,) = (n for n in graph.module.graph.nodes if n.name in graph.outputs)
        assert set(writers(Flow(graph)).get(out, {})) == axes
