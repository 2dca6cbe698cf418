import copy
from functools import partial

import pytest
import torch
from torch import nn

from nets import seeded
from plumbob.errors import InputError
from plumbob.mending.certify import certify
from plumbob.types import Safety

X = torch.randn(8, 3, generator=seeded())


def nothing(model):
    pass


def scale(model, *, factor, of="0.weight"):
    with torch.no_grad():
        model.get_parameter(of).mul_(factor)


def net(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), *layers)


def test_the_same_model_has_no_error_at_all():
    proof = certify(net(nn.Dropout(), nn.BatchNorm1d(4)), nothing, X)
    assert (proof.identity_ulps, proof.holds, proof.precise) == (0, True, True)
    assert proof.stored_ulps == proof.rounding > 0
    assert not (proof.removed)
    assert not (proof.added)
    assert not (proof.changed)
    assert not (proof.side_effects)


def deep(dtype):
    torch.manual_seed(0)
    layers = [nn.Linear(256, 256) for _ in range(6)]
    return nn.Sequential(*layers).to(dtype), torch.randn(8, 256, dtype=dtype)


def test_a_model_in_float64_rounds_about_as_in_float32():
    """There it is its own truth: an ulp of the parameters stands for its rounding."""
    model, x = deep(torch.float32)
    single = certify(model, nothing, x)
    double = certify(model.double(), nothing, x.double())
    assert double.stored_ulps == 0
    assert single.rounding < double.rounding < 8 * single.rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("ulps", "precise"), [(1, True), (100, False)])
def test_what_is_off_by_many_ulps_is_told_in_every_dtype(dtype, ulps, precise):
    model, x = deep(dtype)
    factor = 1 + ulps * torch.finfo(dtype).eps
    proof = certify(model, partial(scale, factor=factor), x)
    assert proof.precise is precise
    assert proof.holds is (dtype is torch.float64)


@pytest.mark.parametrize("factor", [1 + 1e-8, 1.001, 0.0, float("nan")])
def test_a_change_too_small_for_float32_shows_in_float64(factor):
    assert not certify(net(), partial(scale, factor=factor), X).holds


def test_a_bias_of_zero_is_tried_at_other_values():
    model = net()
    nn.init.zeros_(model[0].bias)

    def drop(model):
        model[0].bias = None

    assert not certify(model, drop, X).holds
    assert certify(model, drop, X, probes=1).holds


def test_inference_alone_does_not_see_training():
    def undrop(model):
        model[1].p = 0.0

    model = net(nn.Dropout(0.5))
    assert certify(model, undrop, X, claim=Safety.EVAL_ONLY).holds
    assert not certify(model, undrop, X).holds


def test_what_training_leaves_in_the_statistics_is_compared():
    def forget(model):
        model[1].momentum = 0.5

    model = net(nn.BatchNorm1d(4))
    assert certify(model, forget, X, claim=Safety.EVAL_ONLY).holds
    assert not certify(model, forget, X).holds


class Casts(nn.Module):
    """As norms and softmax in half precision: float32 inside."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.constant = torch.ones(4)

    def forward(self, x):
        z = self.fc(x).float()
        inside = z / z.square().mean(-1, keepdim=True).sqrt()
        return {"out": inside.to(x.dtype) * self.constant.to(x.dtype), "n": 1}


def test_casts_inside_the_model_do_not_blunt_the_test():
    model = Casts().bfloat16()
    double = partial(scale, factor=2.0, of="fc.weight")

    def both(model):
        double(model)
        scale(model, factor=2.0, of="fc.bias")

    proof = certify(model, both, X.bfloat16())
    assert proof.dtype == "bfloat16"
    assert proof.holds
    assert proof.identity_ulps < 100
    tiny = partial(scale, factor=1 + 1e-8, of="fc.weight")
    assert not certify(model.float(), tiny, X).holds


def test_what_could_not_show_does_not_hold():
    class Never(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x):
            return self.fc(x) * torch.nan

    class Whole(Never):
        def forward(self, x):
            return self.fc(x).argmax(-1)

    for model in (Never(), Whole()):
        proof = certify(model, nothing, X)
        assert (proof.probes, proof.holds) == (0, False)


def test_nothing_is_touched():
    model = net(nn.BatchNorm1d(4), nn.Dropout())
    state = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    certify(model, partial(scale, factor=2.0), X)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    assert model.training
    assert torch.get_default_dtype() is torch.float32
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


def test_side_effects_are_told():
    def pad(model):
        model[0].padding = (1,)
        model[0].register_forward_pre_hook(print)
        model.append(nn.Identity())

    proof = certify(nn.Sequential(nn.Conv1d(2, 2, 3)), pad, torch.randn(2, 2, 5))
    assert not proof.holds
    assert len(proof.side_effects) == 3
    assert "does NOT hold" in str(proof)


def test_a_model_that_fails_is_said_to():
    with pytest.raises(InputError, match=r"failed on float32\[1, 3\] in training"):
        certify(net(nn.BatchNorm1d(4)), nothing, X[:1])
