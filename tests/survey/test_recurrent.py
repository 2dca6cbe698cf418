"""The net input of recurrent cells against cells unrolled by hand in float64."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import plumbob
from netting import seeded
from plumbob.survey.maps import Maps
from plumbob.survey.measure import measure

GATES = {
    "LSTM": ("input", "forget", "cell", "output"),
    "GRU": ("reset", "update", "new"),
    "RNN": ("",),
}


class Net(nn.Module):
    def __init__(self, kind, lengths=None, **options):
        super().__init__()
        torch.manual_seed(0)
        self.cell = getattr(nn, kind)(3, 4, batch_first=True, **options)
        self.lengths = lengths

    def forward(self, x):
        if self.lengths:
            x = pack_padded_sequence(x, self.lengths, batch_first=True)
            return self.cell(x)[0].data
        return self.cell(x)[0]


def unrolled(cell, x, end, lengths=None):
    """Return every z of each gate, all times and samples as rows."""
    kind = type(cell).__name__
    own = {n: p.detach().double() for n, p in cell.named_parameters()}
    w, u = own[f"weight_ih{end}"], own[f"weight_hh{end}"]
    zero = torch.zeros(len(w), dtype=torch.float64)
    b, d = own.get(f"bias_ih{end}", zero), own.get(f"bias_hh{end}", zero)
    rows = [[] for _ in GATES[kind]]
    for i, sample in enumerate(x.double()):
        h = c = torch.zeros(u.shape[1], dtype=torch.float64)
        sample = sample[: lengths[i]] if lengths else sample
        for step in sample.flip(0) if "reverse" in end else sample:
            i_part, h_part = w @ step + b, u @ h + d
            parts = (i_part + h_part).chunk(len(rows))
            if kind == "GRU":
                r, z = parts[0].sigmoid(), parts[1].sigmoid()
                new = i_part.chunk(3)[2] + r * h_part.chunk(3)[2]
                parts = (*parts[:2], new)
                h = (1 - z) * new.tanh() + z * h
            elif kind == "LSTM":
                c = parts[1].sigmoid() * c + parts[0].sigmoid() * parts[2].tanh()
                h = parts[3].sigmoid() * c.tanh()
            else:
                h = getattr(torch, cell.nonlinearity)(parts[0])
            for gate, part in zip(rows, parts, strict=True):
                gate.append(part)
    return [torch.stack(gate) for gate in rows]


def compared(model, x, end, lengths=None):
    survey = measure(model, x)
    place = end.lstrip("_")
    names = GATES[type(model.cell).__name__]
    gates = unrolled(model.cell, x, end, lengths)
    sites = {site.name: site for site in survey.sites}
    for gate, z in zip(names, gates, strict=True):
        name = f"cell.{place}.{gate}".rstrip(".")
        reading = survey.readings[name]
        assert sites[name].kind == "recurrent-sum"
        assert sites[name].fed_by == (f"cell.weight_ih{end}", f"cell.weight_hh{end}")
        np.testing.assert_allclose(reading.z.mean, z.mean(0), atol=1e-6)
        np.testing.assert_allclose(reading.z.var, z.var(0, correction=0), rtol=1e-5)
        assert (reading.z.count == len(z)).all()
        assert (reading.z.positive == (z > 0).sum(0).numpy()).all()
    return survey


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("bias", [True, False])
def test_moments_of_the_sum(kind, bias):
    x = torch.randn(5, 6, 3, generator=seeded())
    compared(Net(kind, bias=bias), x, "_l0")


def test_relu_and_two_ways():
    x = torch.randn(5, 6, 3, generator=seeded())
    survey = compared(Net("RNN", nonlinearity="relu"), x, "_l0")
    assert {s.activation for s in survey.sites if s.name == "cell.l0"} == {"relu"}
    for end in ("_l0", "_l0_reverse"):
        compared(Net("LSTM", bidirectional=True), x, end)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_packed_sequences(kind):
    x = torch.randn(3, 6, 3, generator=seeded())
    lengths = [6, 4, 1]
    compared(Net(kind, lengths), x, "_l0", lengths)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_cells_that_are_called_one_step_at_a_time(kind):
    torch.manual_seed(0)
    cell = getattr(nn, f"{kind}Cell")(3, 4)
    model = nn.Sequential(cell) if kind != "LSTM" else First(cell)
    survey = measure(model, torch.randn(64, 3, generator=seeded()))
    names = {s.name for s in survey.sites if s.kind == "recurrent-sum"}
    path = "0" if kind != "LSTM" else "cell"
    assert names == {f"{path}.{gate}".rstrip(".") for gate in GATES[kind]}


class First(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        return self.cell(x)[0]


def test_the_bias_is_that_of_both_maps():
    model = Net("LSTM")
    survey = measure(model, torch.randn(5, 6, 3, generator=seeded()))
    both = (model.cell.bias_ih_l0 + model.cell.bias_hh_l0).detach().double()
    reading = survey.readings["cell.l0.forget"]
    np.testing.assert_allclose(reading.bias(4), both[4:8], atol=1e-7)
    model = Net("GRU")
    survey = measure(model, torch.randn(5, 6, 3, generator=seeded()))
    assert survey.readings["cell.l0.new"].shift is None


def test_gates_as_a_graphics_card_adds_them():
    """There one operation adds biases and maps; the gates are told all the same."""
    model = Net("LSTM")
    seen = {}
    maps = Maps(model, lambda found: None, lambda found: None)
    maps.on_sum = lambda cell, gate, z: seen.update({gate: z})
    w, u, b, d = (p.detach() for p in model.cell.parameters())
    x, h = torch.randn(2, 3, generator=seeded()), torch.randn(2, 4)
    with maps:
        one, two = x @ model.cell.weight_ih_l0.T, h @ model.cell.weight_hh_l0.T
        maps._fused((one, two, h, model.cell.bias_ih_l0, model.cell.bias_hh_l0))
    whole = x @ w.T + h @ u.T + b + d
    for gate, z in enumerate(whole.chunk(4, -1)):
        torch.testing.assert_close(seen[gate], z)


def test_a_healthy_recurrent_net_is_left_in_peace():
    x = torch.randn(64, 9, 3, generator=seeded())
    for kind in GATES:
        report = plumbob.check(Net(kind), x)
        assert not [f for f in report.findings if f.severity > plumbob.Severity.INFO]
