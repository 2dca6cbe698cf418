"""`look`: every quantity against its definition, and the pictures."""

import numpy as np
import pytest
import torch
from torch import nn

import plumbob
from nets import mlp, seeded
from plumbob import InputError
from plumbob.report.picture import against_zero, number
from plumbob.report.view import entropy


@pytest.fixture(scope="module")
def case():
    model = mlp(5, 4, 3)
    model[0].bias.data = torch.tensor([0.0, 1.0, -2.0, 9.0])
    x = torch.randn(200, 5, generator=seeded(1)) * torch.arange(1.0, 6.0) + 0.5
    return model, x, plumbob.look(model, x)


def test_units_against_float64(case):
    model, x, view = case
    w, b = model[0].weight.detach().double(), model[0].bias.detach().double()
    z = x.double() @ w.T + b
    for unit in range(4):
        row = view["0", unit].row
        expected = {
            "b": b[unit],
            "w_mu": x.double().mean(0) @ w[unit],
            "beta": z[:, unit].mean(),
            "sd": z[:, unit].std(correction=0),
            "norm": w[unit].norm(),
            "centre": -b[unit] / w[unit].norm(),
            "kappa": (z[:, unit].mean() - b[unit]).abs() / z[:, unit].std(correction=0),
            "firing": (z[:, unit] > 0).double().mean(),
            "best_bias": b[unit] - z[:, unit].quantile(0.5),
        }
        for name, value in expected.items():
            assert row[name] == pytest.approx(float(value), rel=1e-4, abs=1e-5), name
        p = row["firing"]
        bits = 0 if p in {0, 1} else -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        assert row["entropy"] == pytest.approx(bits)
        assert "-" not in str(row["entropy"])
        importance = w[unit].abs() * x.double().std(0, correction=0)
        assert view["0", unit].importance == pytest.approx(importance.numpy(), rel=1e-4)
        assert row["top_input"] == int(importance.argmax())
        assert row["top_moves"] == pytest.approx(float(importance.max()), rel=1e-4)


def test_best_bias_makes_one_bit(case):
    model, x, view = case
    model = nn.Sequential(*model)
    best = [row["best_bias"] for row in view["0"].table()]
    model[0].bias.data = torch.tensor(best)
    after = plumbob.look(model, x)["0"].table()
    assert [row["entropy"] for row in after] == pytest.approx([1.0] * 4, abs=1e-4)


def test_entropy_of_gates():
    rates = np.array([0.0, 0.5, 1.0, 0.1586552539314571])
    assert entropy(rates) == pytest.approx([0, 1, 0, 0.6311], abs=1e-4)


@pytest.mark.parametrize(
    ("labels", "interval"),
    [
        ([0, 0, 0, 1], (-2, -1)),
        ([0, 1, 1, 1], (-1, 0)),
        ([1, 1, 1, 1], (0, np.inf)),
        ([0, 0, 0, 0], (-np.inf, -2)),
        ([0, 1, 1, 0], None),
    ],
    ids=["and", "or", "always", "never", "xor"],
)
def test_interval_of_a_labelling(labels, interval):
    unit = nn.Linear(2, 1)
    unit.weight.data.fill_(1)
    unit.bias.data.fill_(0.3)
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    found = plumbob.look(unit, x)["weight", 0].interval(labels)
    assert found == interval


def test_interval_needs_every_input(case):
    model, x, _ = case
    thinned = plumbob.look(model, x, keep=50)["0", 0]
    with pytest.raises(InputError, match="every input"):
        thinned.interval([0] * 200)
    with pytest.raises(InputError, match="expected 200 labels"):
        plumbob.look(model, x)["0", 0].interval([0, 1])


def test_table_and_names(case):
    _, _, view = case
    rows = view.table()
    assert [(r["site"], r["unit"]) for r in rows[3:5]] == [("0", 3), ("2", 0)]
    assert list(view) == ["0", "2"]
    assert len(view.to_frame()) == 7
    assert all(isinstance(r["beta"], float) for r in rows)
    with pytest.raises(InputError, match="no site is called 'fc'"):
        view["fc"]
    with pytest.raises(InputError, match="from 0 to 3, got 4"):
        view["0", 4]


def test_without_data_only_the_weights_speak():
    view = plumbob.look(mlp(3, 2))
    row = view.table()[0]
    assert row["norm"] > 0
    assert row["beta"] is None
    assert "beta" not in str(view["0", 0])


def test_pictures(case):
    model, _, view = case
    text = str(view)
    assert "4 x 5" in text
    assert "relu" in text
    assert text.count("│") == 2
    assert "z against 0" in str(view["0"])
    assert "entropy" in str(view["0", 3])
    assert max(map(len, text.splitlines())) <= 120
    assert "flat" in str(plumbob.look(nn.Sequential(model[0], nn.Tanh()), case[1])["0"])


def test_picture_of_a_distribution():
    assert against_zero(np.array([-1.0, 1, 1, 1]), 2) == "▃ │ █"
    assert against_zero(np.zeros(5), 3) == "   │   "
    assert against_zero(np.array([np.nan, np.inf, 2.0]), 1) == " │█"
    assert number(None) == "-"
    assert number(-0.12345) == "\N{MINUS SIGN}0.123"


def test_convolution_and_embedding():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 25, 2)
    )
    x = torch.randn(8, 3, 5, 5, generator=seeded())
    view = plumbob.look(model, x)
    w = model[0].weight.detach().double()[1].flatten(1).norm(dim=1)
    sd = x.double().transpose(0, 1).flatten(1).std(1, correction=0)
    assert view["0", 1].importance == pytest.approx((w * sd).numpy(), rel=1e-4)
    ids = torch.arange(12).view(3, 4)
    words = plumbob.look(nn.Sequential(nn.Embedding(12, 5), nn.Linear(5, 2)), ids)
    assert words["1", 0].row["sd"] > 0
    assert str(words)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_gate_has_the_bias_of_both_its_maps(kind):
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = kind(8, 16, batch_first=True)

        def forward(self, x):
            return self.l(x)[0]

    model, x = Net(), torch.randn(32, 5, 8, generator=seeded())
    view = plumbob.look(model, x)
    both = (model.l.bias_ih_l0 + model.l.bias_hh_l0).detach().double().view(-1, 16)
    gates = [name for name in view if view[name].site.kind == "recurrent-sum"]
    assert gates
    for name in gates:
        site, reading = view[name].site, view[name].reading
        assert "read by its cell" in str(view[name])
        row = view[name, 3].row
        if name.endswith("new"):  # i + reset * h: there is no one bias
            assert row["b"] is row["best_bias"] is None
            continue
        expected = float(both[site.rows[0] // 16, 3])
        assert row["b"] == pytest.approx(expected, abs=1e-5)
        median = float(np.median(reading.sample[:, 3]))
        assert row["best_bias"] == pytest.approx(expected - median, abs=1e-5)


def test_a_map_without_a_bias_has_none():
    model = nn.Sequential(nn.Linear(3, 4, bias=False))
    x = torch.randn(9, 3, generator=seeded())
    row = plumbob.look(model, x)["0", 1].row
    median = float(model(x).detach()[:, 1].median())
    assert row["b"] is None
    assert row["best_bias"] == pytest.approx(-median, abs=1e-5)
