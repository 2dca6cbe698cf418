import json

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

import plumbob
from nets import seeded
from plumbob.errors import InputError
from plumbob.types import Safety

X = torch.randn(8, 3, generator=seeded())


def normed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()


def test_a_function_is_tried_at_random_parameters():
    def fuse(model):
        return fuse_linear_bn_eval(model.eval()[0], model[1])

    proof = plumbob.prove(normed(), fuse, X)
    assert (proof.claim, proof.holds, proof.precise) == (Safety.EVAL_ONLY, True, True)
    assert proof.random_parameters
    assert proof.identity_ulps < 8
    assert {"0.bias", "1.running_mean"} < set(proof.removed)
    assert "random parameters, random inputs" in str(proof)
    in_training = plumbob.prove(normed(), fuse, X, claim="exact")
    assert not in_training.holds


def test_a_model_is_tried_with_the_parameters_that_it_has():
    before = normed()
    after = fuse_linear_bn_eval(before[0], before[1])
    proof = plumbob.prove(before, after, X)
    assert (proof.claim, proof.holds, proof.precise) == (Safety.EVAL_ONLY, True, True)
    assert (proof.random_parameters, proof.random_inputs) == (False, True)
    assert "parameters as they are" in str(proof)
    # its parameters are rounded to float32, which shows in float64
    assert 1e6 < proof.identity_ulps < proof.bound
    with torch.no_grad():
        after.weight.mul_(1 + 1e-4)
    assert not plumbob.prove(before, after, X).holds


def test_what_rounds_in_half_precision_only_is_not_the_same():
    before = normed()
    proof = plumbob.prove(before, normed().half().float(), X)
    assert not proof.holds


def test_a_mistake_that_these_parameters_hide_shows_at_random_ones():
    before = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    nn.init.zeros_(before[0].bias)
    after = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU())
    after[0].weight = before[0].weight

    def drop(model):
        model[0].bias = None

    assert plumbob.prove(before, after, X).holds
    assert not plumbob.prove(before, drop, X).holds


def test_integers_are_drawn_anew_for_models_that_stay_as_they_are():
    before, after = (nn.Embedding(10, 3) for _ in "ab")
    after.weight = nn.Parameter(before.weight.detach().clone())
    x = torch.arange(8).reshape(2, 4)
    proof = plumbob.prove(before, after, x)
    assert (proof.claim, proof.holds, proof.probes) == (Safety.EXACT, True, 3)
    assert proof.random_inputs
    assert proof.identity_ulps == 0
    with torch.no_grad():
        after.weight[9] = 7  # which the batch does not have
    assert plumbob.prove(before, after, x).holds
    after.weight.data[3] = 7
    assert not plumbob.prove(before, after, x).holds


def test_a_conv_used_twice_is_not_fused_unnoticed():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
            self.norm.running_mean.fill_(1.0)

        def forward(self, x):
            return self.norm(self.conv(x)) + self.conv(x)

    def fuse(model):
        model.eval()
        model.conv = fuse_conv_bn_eval(model.conv, model.norm)
        model.norm = nn.Identity()

    proof = plumbob.prove(Twice().eval(), fuse, torch.randn(2, 2, 3, 3))
    assert not proof.holds
    assert any("norm: BatchNorm2d" in effect for effect in proof.side_effects)


def test_plain_values_are_json():
    facts = json.loads(json.dumps(plumbob.prove(normed(), nn.Tanh(), X).to_dict()))
    assert facts["identity_ulps"] is None  # another shape
    assert (facts["holds"], facts["claim"]) == (False, "eval-only")


@pytest.mark.parametrize(
    ("before", "after", "options", "told"),
    [
        ("net", nn.ReLU(), {}, "the model before as a module, got str"),
        (nn.Linear(3, 1), "net", {}, "a function of the model before, got str"),
        (nn.Linear(3, 1), nn.Linear(3, 1), {"claim": "same"}, "exact or eval-only"),
        (nn.Linear(3, 1), lambda m: m.nothing, {}, "the rewrite failed on a copy"),
        (nn.ReLU(), lambda m: m.nothing, {}, r"a copy of ReLU \(no parameters\)"),
        (nn.Linear(3, 1), nn.Linear(5, 1), {}, "Linear failed on"),
    ],
)
def test_bad_use_is_told(before, after, options, told):
    with pytest.raises(InputError, match=told):
        plumbob.prove(before, after, X, **options)
