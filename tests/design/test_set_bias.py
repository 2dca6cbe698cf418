import pytest
import torch
from torch import nn

from nets import mlp
from plumbob.design.set_bias import set_bias
from plumbob.errors import InputError


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_named_units_and_no_others(dtype):
    model = mlp(4, 8, 2).to(dtype)
    set_bias(model, parameter="0.bias", units=(1, 6), values=(0.5, -2.0))
    assert model[0].bias.tolist() == [0, 0.5, 0, 0, 0, 0, -2, 0]
    assert model[0].bias.requires_grad


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parameter": "0.bais"}, "Did you mean '0.bias'"),
        ({"units": (8,), "values": (1.0,)}, r"units from 0 to 7 of 0.bias \[8\]"),
        ({"units": (-1,), "values": (1.0,)}, "units from 0 to 7"),
        ({"units": (1, 1)}, "different units"),
        ({"values": (1.0,)}, "1 numbers"),
        ({"values": (1.0, float("nan"))}, "values that torch.float32 holds"),
        ({"values": (1.0, 1e300)}, "values that torch.float32 holds"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(changes, says):
    model = mlp(4, 8, 2)
    given = {"parameter": "0.bias", "units": (0, 1), "values": (1.0, 2.0)}
    with pytest.raises(InputError, match=says):
        set_bias(model, **given | changes)
    assert not model[0].bias.any()


def test_a_frozen_or_shared_bias_is_refused():
    model = mlp(4, 8, 8, 2)
    model[0].bias.requires_grad_(False)
    with pytest.raises(InputError, match="frozen"):
        set_bias(model, parameter="0.bias", units=(0,), values=(1.0,))
    model[4].bias = nn.Parameter(torch.zeros(2))
    model.add_module("again", model[4])
    with pytest.raises(InputError, match=r"shared with again\.bias"):
        set_bias(model, parameter="4.bias", units=(0,), values=(1.0,))
