import pytest
import torch

from nets import mlp
from plumbob.design.shift_bias import shift_bias
from plumbob.errors import InputError


def test_what_is_there_is_kept():
    model = mlp(4, 8, 3)
    model[2].bias.data = torch.tensor([1.0, 2.0, 3.0])
    shift_bias(model, parameter="2.bias", units=(0, 2), shift=(0.5, -4.0))
    assert model[2].bias.tolist() == [1.5, 2, -1]


def test_the_sum_is_rounded_once():
    model = mlp(4, 8, 1).to(torch.bfloat16)
    model[2].bias.data.fill_(256.0)
    shift_bias(model, parameter="2.bias", units=(0,), shift=(-255.5,))
    assert model[2].bias.tolist() == [0.5]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parameter": "2.weigth"}, "Did you mean '2.weight'"),
        ({"units": (0, 3)}, r"units from 0 to 2 of 2.bias \[3\]"),
        ({"units": (1, 1)}, "different units"),
        ({"shift": (1.0, 2.0, 3.0)}, "3 numbers"),
        ({"shift": (1.0, float("inf"))}, "values that torch.float32 holds"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(changes, says):
    model = mlp(4, 8, 3)
    given = {"parameter": "2.bias", "units": (0, 1), "shift": (1.0, 2.0)}
    with pytest.raises(InputError, match=says):
        shift_bias(model, **given | changes)
    assert not model[2].bias.any()
