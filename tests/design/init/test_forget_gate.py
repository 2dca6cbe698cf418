import pytest
import torch
from torch import nn

from plumbob.design.init.forget_gate import chrono_, forget_gate_
from plumbob.errors import InputError


def summed(module, end):
    return getattr(module, f"bias_ih{end}") + getattr(module, f"bias_hh{end}")


@pytest.mark.parametrize("proj_size", [0, 3])
def test_every_layer_and_direction_of_an_lstm(proj_size):
    model = nn.LSTM(4, 6, num_layers=2, bidirectional=True, proj_size=proj_size)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    done = forget_gate_(model, value=1.5)
    assert len(done) == 4
    for end in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        assert summed(model, end)[6:12].tolist() == [1.5] * 6
        for part in ("ih", "hh"):
            now, old = getattr(model, f"bias_{part}{end}"), before[f"bias_{part}{end}"]
            assert torch.equal(now[:6], old[:6])
            assert torch.equal(now[12:], old[12:])
    assert all(
        torch.equal(model.get_parameter(n), before[n]) for n in before if "w" in n
    )


@pytest.mark.parametrize("value", [-2.0, 0.0, 3.0])
def test_a_state_decays_by_the_sigmoid_of_the_value(value):
    """With zero weights and closed input gates c' = sigmoid(b_f) c, exactly."""
    cell = nn.LSTMCell(2, 5).double()
    for p in cell.parameters():
        p.data.zero_()
    forget_gate_(cell, value=value)
    state = torch.zeros(1, 5).double(), torch.ones(1, 5).double()
    _, c = cell(torch.zeros(1, 2).double(), state)
    torch.testing.assert_close(c[0], torch.sigmoid(torch.full((5,), value).double()))


def test_the_update_gate_of_a_gru_keeps_the_state():
    gru = nn.GRUCell(2, 5).double()
    for p in gru.parameters():
        p.data.zero_()
    done = forget_gate_(gru, value=3.0)
    assert done == {"bias_ih": "update gate 3: keeps 95.3% per step"}
    h = gru(torch.zeros(1, 2).double(), torch.ones(1, 5).double())
    assert h[0].tolist() == pytest.approx([0.9525741] * 5)


def test_chrono_spreads_time_scales_evenly_and_mirrors_the_input_gate():
    model = nn.LSTM(4, 4000)
    random = torch.get_rng_state()
    chrono_(model, longest=200)
    assert torch.equal(torch.get_rng_state(), random)
    bias = summed(model, "_l0").detach()
    u = bias[4000:8000].exp()
    assert 1 <= float(u.min()) <= 1.3
    assert 198.7 <= float(u.max()) <= 199.01
    assert float(u.mean()) == pytest.approx(100, abs=4 * 198 / (12 * 4000) ** 0.5)
    assert torch.equal(bias[:4000], -bias[4000:8000])


def test_chrono_is_seeded_and_draws_anew_for_each_layer():
    a, b, c = (nn.LSTM(3, 8, num_layers=2, bidirectional=True) for _ in range(3))
    chrono_(a, longest=50)
    chrono_(b, longest=50)
    chrono_(c, longest=50, seed=1)
    drawn = {tuple(summed(a, e)[8:16].tolist()) for e in ("_l0", "_l0_reverse", "_l1")}
    assert len(drawn) == 3
    assert torch.equal(summed(a, "_l1"), summed(b, "_l1")) is False  # other gates
    assert torch.equal(summed(a, "_l1")[:16], summed(b, "_l1")[:16])
    assert not torch.equal(summed(a, "_l1")[:16], summed(c, "_l1")[:16])


def test_chrono_of_a_gru_leaves_its_other_gates():
    model = nn.GRU(3, 8)
    before = model.bias_ih_l0.detach().clone()
    chrono_(model, longest=50)
    assert torch.equal(model.bias_ih_l0[:8], before[:8])
    assert float(summed(model, "_l0")[8:16].detach().min()) > 0


def test_what_is_left_is_said_and_bf16_works():
    model = nn.ModuleDict({
        "none": nn.LSTM(2, 3, bias=False),
        "frozen": nn.GRU(2, 3).requires_grad_(False),
        "low": nn.LSTM(2, 3, dtype=torch.bfloat16),
        "plain": nn.RNN(2, 3),
    })
    assert forget_gate_(model) == {
        "none.bias_ih_l0": "left: it has no bias (bias=False)",
        "frozen.bias_ih_l0": "left: frozen (requires_grad=False)",
        "low.bias_ih_l0": "forget gate 1: keeps 73.1% per step",
    }
    assert summed(model["low"], "_l0")[3:6].tolist() == [1.0] * 3


def test_what_is_refused():
    with pytest.raises(InputError, match="3 steps or more, got 2"):
        chrono_(nn.LSTM(2, 2), longest=2)
    with pytest.raises(InputError, match="got RNN without one"):
        forget_gate_(nn.RNN(2, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused(value):
    lstm = nn.LSTM(2, 3)
    with pytest.raises(InputError, match="finite value"):
        forget_gate_(lstm, value=value)
    assert lstm.bias_ih_l0.isfinite().all()
