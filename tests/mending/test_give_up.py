import pytest
import torch
from torch import nn

import plumbob
from plumbob.mending.give_up import give_up


@pytest.mark.parametrize("norm", [nn.RMSNorm(4), nn.LayerNorm(4, bias=False)])
def test_a_gain_of_1_goes(norm):
    model = nn.Sequential(norm)
    give_up(model, ["0.weight"], "drop")
    assert norm.weight is None
    assert not norm.elementwise_affine


def test_a_gain_stays_frozen_beside_a_bias():
    model = nn.Sequential(nn.LayerNorm(4))
    give_up(model, ["0.weight"], "drop")
    assert model[0].weight.tolist() == [1.0] * 4
    assert not model[0].weight.requires_grad


@pytest.mark.parametrize("value", [0.5, 2.0])
def test_another_gain_counts(value):
    model = nn.Sequential(nn.RMSNorm(4))
    model[0].weight.data.fill_(value)
    give_up(model, ["0.weight"], "drop")
    assert model[0].weight.requires_grad


def test_a_bias_of_1_counts():
    model = nn.Sequential(nn.Linear(4, 3))
    model[0].bias.data.fill_(1.0)
    give_up(model, ["0.bias"], "drop")
    assert model[0].bias.requires_grad


@pytest.mark.parametrize("goal", ["training", "inference"])
def test_biases_of_queries_that_are_0_as_yet_stay(goal):
    model, x = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(2, 3, 8)
    assert not model.in_proj_bias.any()
    with torch.no_grad():
        model.in_proj_bias[8:16] = 1.0  # of the keys
    fixed, proof = plumbob.fix(model, (x, x, x), goal=goal, select="drop-key-bias")
    assert [one.changed for one in proof.certificates] == [("in_proj_bias",)]
    assert not fixed.in_proj_bias.any()
    assert fixed.in_proj_bias.requires_grad


class KeysAndValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.kv, self.o = nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(8, 8)

    def forward(self, x):
        k, v = self.kv(x).chunk(2, -1)
        return self.o((self.q(x) @ k.mT).softmax(-1) @ v)


def test_keys_packed_with_values_are_told_apart():
    model, x = KeysAndValues(), torch.randn(2, 3, 8)
    fixed, proof = plumbob.fix(model, x, goal="training")
    assert [one.code for one in proof.certificates] == ["PB303"]
    assert not fixed.kv.bias[:8].any()
    assert torch.equal(fixed.kv.bias[8:], model.kv.bias[8:])
    fixed, proof = plumbob.fix(model, x)
    assert [one.code for one in proof.certificates] == ["PB304", "PB303"]
    assert fixed.kv.bias is None
