import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as f

from hand import moments
from plumbob.survey import bounds as survey_bounds
from plumbob.survey.bounds import ceilings, holds
from plumbob.survey.graph import export
from plumbob.survey.measure import measure
from plumbob.survey.ops import op
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
    model[2].weight.data[:, 0] = 0.5
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


def between(model, *data):
    """Return the bounds of every operation, in order."""
    graph = export(model.eval(), data, {}, training=False)
    found = survey_bounds.bounds(model, graph)
    names = {n: op(n) for n in graph.module.graph.nodes if n.op == "call_function"}
    return [(name, found.nodes[n], found.units.get(n)) for n, name in names.items()]


def test_the_worst_corner_of_a_box():
    model = nn.Sequential(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 5))
    _, _, (_, hull, (low, high)) = between(model, normals(3, 4))
    np.testing.assert_allclose(high, oracle(model[2], 0.0, 1.0))
    model[2].weight.data.neg_()
    model[2].bias.data.neg_()
    np.testing.assert_allclose(low, -oracle(model[2], 0.0, 1.0))
    assert hull == (low.min(), high.max())


def test_a_frozen_batch_norm_is_a_map_of_each_channel():
    norm = nn.BatchNorm1d(3)
    norm.running_mean, norm.running_var = torch.tensor([[0.5, -1, 2], [4, 1, 9.0]])
    norm.weight.data, norm.bias.data = torch.tensor([[2.0, -3, 0], [1, 1, -7]])
    model = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), norm)
    *_, (_, hull, _) = between(model, normals(3, 4))
    corners = torch.tensor([[0.0] * 3, [1.0] * 3])
    seen = norm(corners).detach()
    assert hull == pytest.approx((seen.min().item(), seen.max().item()))


def test_a_unit_without_weights_is_known_whatever_it_reads():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model[0].weight.data[1] = 0
    (_, _, (low, high)), _ = between(model, normals(3, 4))
    b = model[0].bias[1].item()
    assert (low[1], high[1]) == (b, b)
    assert np.isinf(np.delete(high, 1)).all()
    assert bounds(model, normals(3, 4)) == {}


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [
        (lambda x: f.hardtanh(x.tanh() + x.tanh(), -0.5, 3.0), -0.5, 2.0),
        (lambda x: f.relu6(x.square()), 0.0, 6.0),
        (lambda x: f.pad(x.sigmoid(), (1, 1), value=-3.0), -3.0, 1.0),
        (lambda x: f.pad(x.sigmoid()[None], (1, 1), mode="circular"), 0.0, 1.0),
    ],
)
def test_functions_that_cut_or_pad(function, low, high):
    class Function(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Linear(1, 1)

        def forward(self, x):
            return function(x)

    *_, (_, hull, _) = between(Function(), normals(3, 4))
    assert hull == pytest.approx((low, high))


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


@pytest.mark.parametrize(("seen", "true"), [(-0.49, False), (-0.5, True), (0.1, False)])
def test_what_is_seen_above_its_bound_is_no_theorem(seen, true):
    z = moments(np.array([[seen, -3.0], [-2.0, -3.0]]))
    assert holds(np.array([-0.5, np.inf]), z) is true
    assert holds(np.array([-0.5, np.inf]), None)


class Then(nn.Module):
    """Functions, each before a map with both corners of a box among its rows."""

    def __init__(self, functions, x):
        super().__init__()
        self.functions, self.maps = functions, nn.ModuleList()
        for h in self.values(x):
            self.maps.append(nn.Linear(h.shape[1], 2, bias=False))
            one = torch.ones(h.shape[1])
            self.maps[-1].weight.data = torch.stack([one, -one])

    def values(self, x):
        return [function(x).flatten(1) for function in self.functions]

    def forward(self, x):
        pairs = zip(self.maps, self.values(x), strict=True)
        return [layer(h).relu() for layer, h in pairs]


FUNCTIONS = [
    nn.ELU(3.0),
    nn.ELU(-3.0),
    nn.CELU(2.5),
    nn.CELU(-2.5),
    nn.SELU(),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.SiLU(),
    nn.Mish(),
    nn.Softplus(),
    nn.Softplus(-1.0),
    nn.Softplus(1.0, -20.0),
    nn.LeakyReLU(0.3),
    nn.LeakyReLU(-2.0),
    nn.PReLU(init=-1.0),
    nn.RReLU(-2.0, -1.0),
    nn.Hardtanh(-3.0, 5.0),
    nn.Hardswish(),
    nn.Hardshrink(),
    nn.Softshrink(),
    nn.Softsign(),
    nn.Tanhshrink(),
    nn.LogSigmoid(),
    nn.Threshold(0.0, -4.0),
    nn.Softmin(-1),
    nn.LogSoftmax(-1),
    nn.Dropout(0.5).eval(),
    nn.GroupNorm(2, 8),
    nn.RMSNorm(8),
    lambda x: x.clamp(-3, 4),
    lambda x: x.sigmoid() * 4 - 2,
    lambda x: torch.add(x.sigmoid(), x.tanh(), alpha=3),
    lambda x: f.dropout(x.sigmoid(), 0.5, training=True),
    lambda x: f.dropout1d(x.sigmoid()[:, :, None], 0.5, training=True),
    lambda x: f.alpha_dropout(x.sigmoid(), 0.5, training=True),
    lambda x: f.dropout(x.sigmoid(), 1.0, training=True),
    lambda x: f.avg_pool2d(x.sigmoid()[:, None, None], (1, 4), divisor_override=1),
    lambda x: f.avg_pool1d(x.sigmoid()[:, None], 4, padding=2),
    lambda x: f.avg_pool1d(x.sigmoid()[:, None], 4, padding=2, count_include_pad=False),
    lambda x: f.avg_pool1d(x.sigmoid()[:, None], 3, ceil_mode=True),
    lambda x: f.lp_pool1d(x.sigmoid()[:, None], 2.0, 4),
    lambda x: f.max_pool1d(x.sigmoid()[:, None], 2, 2, 1),
    lambda x: f.interpolate(
        x.sigmoid()[:, None, None].expand(-1, 1, 8, 8), scale_factor=2, mode="bicubic"
    ),
    lambda x: f.pad(x.sigmoid(), (2, 2), value=-7.0),
    lambda x: (x.sigmoid() + 0.5).to(torch.int32).float(),
    lambda x: x.sigmoid().view(torch.int32).float(),
    lambda x: (x.sigmoid() > 0.5).float() * 3,
    lambda x: x.sigmoid().cumsum(-1),
    lambda x: x.sigmoid().sum(-1, keepdim=True),
    lambda x: x.sigmoid().var(-1, keepdim=True) * 9,
    lambda x: f.normalize(x, dim=-1) * 3,
    lambda x: torch.where(x > 0, x.sigmoid(), -x),
    lambda x: torch.maximum(x.sigmoid(), x),
    lambda x: x.sigmoid().masked_fill(x > 0, 9.0),
    lambda x: f.scaled_dot_product_attention(
        *[x.sigmoid()[:, None]] * 3, dropout_p=0.9
    ),
    lambda x: torch.softmax(x, -1) / 0.1,
    lambda x: x.sin() + x.cos() + x.sin(),
    lambda x: x.exp().neg(),
    lambda x: x.sigmoid().mean(-1, keepdim=True),
    lambda x: torch.cat([x.sigmoid(), x.tanh()], -1),
    lambda x: x.square().where(x > 0, -1.0),
    lambda x: f.layer_norm(x, (8,), eps=1e-12),
]


def test_no_function_exceeds_its_bound():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(400, 8, generator=generator)
    x = torch.cat([size * noise for size in (0.1, 1.0, 3.0, 30.0)])
    functions = [g.eval() if isinstance(g, nn.Module) else g for g in FUNCTIONS]
    model = Then(functions, x[:4])
    found = bounds(model, x[:4])
    assert len(found) > 12
    wrong = []
    with torch.no_grad():
        for i, h in enumerate(model.values(x)):
            z = model.maps[i](h)
            seen = z[z.isfinite().all(-1)].max(0).values.numpy()
            high = found.get(f"maps.{i}", np.full(2, np.inf))
            wrong += [] if (seen <= high + 1e-4).all() else [i]
    assert not wrong


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_holds_many_rows_or_none(mode):
    bag = nn.EmbeddingBag(7, 4, mode=mode)
    nn.init.uniform_(bag.weight, 0.5, 1)
    model = nn.Sequential(bag, nn.Linear(4, 2, bias=False), nn.ReLU())
    model[1].weight.data = torch.stack([torch.ones(4), -torch.ones(4)])
    found = bounds(model, torch.zeros(3, 5, dtype=torch.long))
    if mode == "sum":
        assert not found
    else:
        assert found["1"] == pytest.approx([4 * bag.weight.max().item(), 0.0])


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.map = nn.EmbeddingBag(7, 4, mode="sum"), nn.Linear(4, 2)

    def forward(self, index, weights):
        return self.map(self.bag(index, per_sample_weights=weights)).relu()


def test_a_bag_with_weights_is_anything():
    index = torch.zeros(3, 5, dtype=torch.long)
    assert not bounds(Weighted(), index, torch.randn(3, 5))


class Biased(nn.Module):
    """A map of bounded values whose bias is no parameter, or comes later."""

    def __init__(self, how):
        super().__init__()
        self.how, self.map = how, nn.Linear(4, 4, bias=how == "plain")
        self.own = nn.Parameter(torch.full((4,), 9.0))

    def forward(self, x):
        h, w = x.sigmoid(), self.map.weight
        if self.how == "computed":
            return f.linear(h, w, 2 * self.own).relu()
        if self.how == "later":
            return (self.map(h) + self.own).relu()
        if self.how == "convolved":
            return f.conv1d(h[..., None], w[..., None], self.own.exp()).relu()
        return self.map(h).relu()


@pytest.mark.parametrize("how", ["computed", "later", "convolved", "plain"])
def test_a_bias_that_is_not_known_bounds_nothing(how):
    assert bool(bounds(Biased(how), normals(3, 4))) is (how == "plain")


class Branching(nn.Module):
    """Takes another way for other data, so that a run of it proves nothing."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 2)

    def forward(self, x):
        return self.map(x.sigmoid() if x.sum() < 100 else x).relu()


def test_one_recorded_path_proves_nothing():
    assert not bounds(Branching(), normals(3, 4))


def test_a_table_whose_rows_are_scaled_down():
    table = nn.Embedding(7, 4, max_norm=0.1)
    nn.init.uniform_(table.weight, 5, 6)
    model = nn.Sequential(table, nn.Linear(4, 1, bias=False), nn.ReLU())
    model[1].weight.data.fill_(-1)
    for high in bounds(model, torch.zeros(3, 5, dtype=torch.long)).values():
        assert high >= 0


def thinned():
    return nn.Sequential(
        *(nn.Linear(4, 6), nn.Sigmoid(), nn.Dropout(0.75)),
        *(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1)),
    )


def test_a_ceiling_holds_in_training_too():
    model = thinned()
    for mode in (True, False):
        found = measure(model.train(mode), normals(8, 4)).readings["3"].ceiling
        np.testing.assert_allclose(found, oracle(model[3], 0.0, 4.0))


def test_a_bound_that_the_data_exceed_is_dropped(monkeypatch):
    lie = {"3": np.full(5, -9.0)}
    monkeypatch.setattr("plumbob.survey.structures.ceilings", lambda *_: lie)
    assert measure(thinned(), normals(8, 4)).readings["3"].ceiling is None
