import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from plumbob.mending.units import (
    Layer,
    add_columns,
    add_constant,
    columns,
    drop,
    intact,
    pads_zeros,
)

KINDS = {
    "linear": (lambda: nn.Linear(6, 4), (5, 6)),
    "hugging face": (lambda: Conv1D(4, 6), (5, 6)),
    "conv": (lambda: nn.Conv2d(6, 4, 2), (5, 6, 3, 3)),
    "turned": (lambda: nn.ConvTranspose1d(6, 4, 2, stride=2), (5, 6, 3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_reader_loses_it_did_not_need(kind):
    build, shape = KINDS[kind]
    reader, writer = build().double(), nn.Linear(2, 3).double()
    x = torch.randn(shape, dtype=torch.float64)
    x[:, 2:4] = 0  # unit 1 of three, two columns each
    model = nn.Sequential(writer, reader)
    before = reader(x)
    layer = Layer(writer="0", units=3, norms=(), readers=(("1", 2),))
    assert intact(model, layer)
    drop(model, layer, {1})
    assert not intact(model, layer)
    after = reader(x[:, [0, 1, 4, 5]])
    torch.testing.assert_close(after, before, rtol=0, atol=1e-14)
    assert writer.out_features == 2


@pytest.mark.parametrize("kind", ["linear", "hugging face", "conv"])
def test_a_constant_is_a_bias(kind):
    build, shape = KINDS[kind]
    model = nn.Sequential(build().double())
    x = torch.randn(shape, dtype=torch.float64)
    c = torch.tensor([0.0, 0.7, -2.0], dtype=torch.float64)
    at = c.repeat_interleave(2).reshape(1, 6, *[1] * (len(shape) - 2))
    expected = model(x + at)
    add_constant(model, "0", 2, c)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-14)


def test_a_map_without_a_bias_gets_one():
    model = nn.Sequential(nn.Linear(2, 3, bias=False))
    add_constant(model, "0", 1, torch.zeros(2, dtype=torch.float64))
    assert model[0].bias is None
    add_constant(model, "0", 1, torch.tensor([0.0, 2.0], dtype=torch.float64))
    assert torch.equal(model[0].bias, 2 * model[0].weight[:, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_equal_units_add_up(kind):
    build, shape = KINDS[kind]
    model = nn.Sequential(build().double())
    x = torch.randn(shape, dtype=torch.float64)
    x[:, 4:] = 0.5 * x[:, :2]
    expected = model(x)
    add_columns(model, "0", 2, {2: (0, 0.5)})
    x[:, 4:] = 0
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-14)


def test_columns_lie_by_unit():
    conv = nn.Conv2d(6, 4, 2)
    found = columns(nn.Sequential(conv), "0", 2)
    assert found.shape == (3, 2, 4, 4)
    assert torch.equal(found[1, 1, 2], conv.weight[2, 3].double().flatten())


@pytest.mark.parametrize(
    ("module", "pads"),
    [
        (nn.Linear(2, 2), False),
        (nn.Conv1d(2, 2, 3), False),
        (nn.Conv1d(2, 2, 3, padding="same"), True),
        (nn.Conv1d(2, 2, 1, padding="same"), False),
        (nn.Conv2d(2, 2, 3, padding=(0, 1)), True),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), False),
        (nn.ConvTranspose1d(2, 2, 3), True),
    ],
)
def test_where_zeros_are_read(module, pads):
    assert pads_zeros(module) is pads
