import pytest
import torch
from torch import nn

from plumbob.design.reset_statistics import reset_statistics
from plumbob.errors import InputError


def test_the_statistics_begin_anew_and_the_rest_stays():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model(torch.randn(8, 3))
    model[1].running_mean[1] = float("nan")
    scale = model[1].weight.detach().clone()
    reset_statistics(model, norm="1")
    fresh = nn.BatchNorm1d(4)
    for name, value in model[1].named_buffers():
        assert torch.equal(value, fresh.get_buffer(name))
    assert torch.equal(model[1].weight, scale)
    assert model.eval()(torch.randn(8, 3)).isfinite().all()


@pytest.mark.parametrize(
    ("norm", "says"),
    [("bn1", "Did you mean 'bn'"), ("fc", "Linear; there is nothing to set back")],
)
def test_what_has_no_statistics_is_refused(norm, says):
    model = nn.ModuleDict({"fc": nn.Linear(3, 4), "bn": nn.BatchNorm1d(4)})
    with pytest.raises(InputError, match=says):
        reset_statistics(model, norm=norm)


def test_a_frozen_norm_is_left():
    model = nn.Sequential(nn.BatchNorm1d(2)).requires_grad_(False)
    model[0].running_mean.fill_(3)
    with pytest.raises(InputError, match="'0', which is frozen"):
        reset_statistics(model, norm="0")
    assert model[0].running_mean.tolist() == [3, 3]
    reset_statistics(nn.Sequential(nn.BatchNorm1d(2, affine=False)), norm="0")
