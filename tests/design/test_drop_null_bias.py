import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from nets import seeded
from plumbob.design.drop_null_bias import drop_null_bias
from plumbob.errors import InputError


def normed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model(torch.randn(16, 3))
    return model


def test_the_running_mean_gives_up_the_bias():
    model = normed()
    expected = model[1].running_mean - model[0].bias.detach()
    drop_null_bias(model, parameter="0.bias", norm="1")
    torch.testing.assert_close(model[1].running_mean, expected)
    assert list(model[0].state_dict()) == ["weight"]


def test_without_its_norm_inference_would_change():
    model, x = normed().eval(), torch.randn(5, 3, generator=seeded())
    before = model(x)
    drop_null_bias(model, parameter="0.bias")
    assert float((model(x) - before).detach().abs().max()) > 0.01


def test_the_second_time_the_norm_is_left():
    model = normed()
    drop_null_bias(model, parameter="0.bias", norm="1")
    mean = model[1].running_mean.clone()
    drop_null_bias(model, parameter="0.bias", norm="1")
    assert torch.equal(model[1].running_mean, mean)


def test_training_goes_on_with_the_old_optimizer():
    model = normed()
    optimizer = torch.optim.Adam(model.parameters())
    before = model[0].weight.detach().clone()
    drop_null_bias(model, parameter="0.bias", norm="1")
    model(torch.randn(8, 3)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)


def test_a_norm_of_several_maps_is_left():
    model = nn.ModuleDict({"a": nn.Linear(3, 4), "n": nn.BatchNorm1d(4)})
    model["m"] = model["n"]
    with pytest.raises(InputError, match="which is also m"):
        drop_null_bias(model, parameter="a.bias", norm="n")


@pytest.mark.parametrize(
    ("model", "arguments", "reason"),
    [
        (normed(), {"parameter": "0.bia"}, "Did you mean '0.bias'"),
        (normed(), {"parameter": "3.bias"}, "does not have"),
        (normed(), {"parameter": "0.bias", "norm": "2"}, "norm '2'"),
        (normed(), {"parameter": "0.bias", "norm": "0"}, "a batch norm of 4"),
        (normed(), {"parameter": "0.bias", "rows": (0, 2)}, "null as a whole"),
        (normed(), {"parameter": "1.bias"}, "BatchNorm1d does not work"),
        (Conv1D(4, 3), {"parameter": "bias"}, "Conv1D does not work"),
        (
            nn.MultiheadAttention(4, 1),
            {"parameter": "in_proj_bias"},
            "MultiheadAttention does not work",
        ),
        (
            nn.MultiheadAttention(4, 1),
            {"parameter": "out_proj.bias"},
            "MultiheadAttention does not work",
        ),
        (nn.LSTM(3, 4), {"parameter": "bias_hh_l0"}, "LSTM does not work"),
    ],
)
def test_what_it_refuses_and_why(model, arguments, reason):
    with pytest.raises(InputError, match=reason):
        drop_null_bias(model, **arguments)


def test_the_optimizer_lets_the_bias_go():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(list(model.named_parameters()))
    model(torch.randn(8, 3)).square().sum().backward()
    optimizer.step()
    bias = model[0].bias
    drop_null_bias(model, optimizer, parameter="0.bias", norm="1")
    (group,) = optimizer.param_groups
    assert group["param_names"] == ["0.weight", "1.weight", "1.bias"]
    assert all(p is not bias for p in group["params"])
    assert bias not in optimizer.state
    optimizer.step()
