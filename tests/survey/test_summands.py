"""Biases told from other summands, and maps from the making of a weight."""

import pytest
import torch
from torch import nn

from probing import agrees, close, seen, traced


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Wrapped(nn.Module):
    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, shape in parameters.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape).double()))

    def forward(self, x):
        return self.function(self, x)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x @ m.W.T + 1,
        lambda m, x: 1 + x @ m.W.T,
        lambda m, x: nn.functional.rms_norm(x @ m.W.T, (3,), m.b) + 1,
    ],
)
def test_a_number_is_no_bias(function):
    model, x = Wrapped(function, W=(3, 4), b=3), torch.randn(6, 4).double()
    agrees(seen(model, x).readings["W"], x, model.W, torch.zeros(3))


def test_a_bias_is_seen_on_the_other_side_of_a_transposition():
    model = Wrapped(lambda m, x: ((m.W @ x.T).T + m.b).relu(), W=(3, 4), b=3)
    x = torch.randn(6, 4).double()
    probed = seen(model, x, found=traced(model, x))
    agrees(probed.readings["W"], x, model.W, model.b)


def test_z_is_not_known_where_its_bias_comes_later():
    model = Wrapped(
        lambda m, x: (nn.functional.dropout(x @ m.W, 0.5) + m.b).relu(), W=(4, 3), b=3
    )
    x = torch.randn(6, 4).double()
    found = traced(model, x)
    assert [(s.bias, s.activation) for s in found] == [("b", "relu")]
    probed = seen(model, x, found=found, keep=2)
    reading = probed.readings["W"]
    assert reading.z is reading.sample is None
    assert "W" in probed.unseen
    close(reading.shift, (x @ model.W).detach().mean(0))


@pytest.mark.parametrize(("alpha", "beta"), [(1, 3), (2, 1), (2, 0)])
def test_scaled_sums(alpha, beta):
    model = Wrapped(
        lambda m, x: torch.addmm(m.b, x, m.W, alpha=alpha, beta=beta), W=(4, 3), b=3
    )
    x = torch.randn(6, 4).double()
    agrees(seen(model, x).readings["W"], x, alpha * model.W.T, beta * model.b)


def test_a_product_of_parameters_is_a_weight_or_a_map():
    def lora(m, x):
        return nn.functional.linear(x, m.W + 0.5 * (m.B @ m.A), m.b)

    def queries(m, x):
        return (m.B @ m.A @ x.T).softmax(-1) @ x

    for function, names in ((lora, []), (queries, ["A"])):
        model = Wrapped(function, W=(3, 4), A=(2, 4), B=(3, 2), b=3)
        x = torch.randn(6, 4).double()
        found = traced(model, x)
        assert [site.name for site in found] == names
        probed = seen(model, x, found=found)
        assert list(probed.readings) == names
        assert not probed.sites


class Unfused(nn.Linear):
    def forward(self, input):
        return input @ self.weight.T + self.bias


class Thrice(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.a, self.b = kind(4, 4), kind(4, 4)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(self.a(x).tanh()).tanh())


@pytest.mark.parametrize("kind", [nn.Linear, Unfused])
def test_uses_of_a_tied_weight_are_told_apart_by_their_bias(kind):
    model, x = Thrice(kind).double(), torch.randn(6, 4).double()
    readings = seen(model, x, found=traced(model, x)).readings
    h = model.a(x).tanh()
    agrees(readings["a"], torch.cat([x, h]), model.a.weight, model.a.bias)
    agrees(readings["b"], model.a(h).tanh(), model.b.weight, model.b.bias)
