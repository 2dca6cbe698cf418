"""Oracles: the model itself in float64, and the fold written out for a linear map."""

from functools import partial

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import plumbob
from offering import change, done, drawn, offers, refusal
from plumbob.mending.certify import certify
from plumbob.mending.trying import _act
from plumbob.rewrites.fold_layer_norm_gamma import fold_layer_norm_gamma
from plumbob.types import Safety


class Gemma(nn.Module):
    """A norm that is written out, with 1 + w for its gain."""

    def __init__(self):
        super().__init__()
        self.w, self.out = nn.Parameter(torch.zeros(4)), nn.Linear(4, 3, bias=False)

    def forward(self, x):
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        return self.out(x * (1 + self.w))


class Images(nn.Module):
    """A norm of channels that lie last; zeros that are padded are harmless to gains."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4, bias=False)
        self.conv = nn.Conv2d(4, 6, 3, padding=1, groups=2)

    def forward(self, x):
        return self.conv(self.norm(x).permute(0, 3, 1, 2))


class Cross(nn.Module):
    """Queries and what they look at have norms, and parts of one weight."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        keys = self.two(x[:, 1:])
        return self.attention(self.one(x[:, :1]), keys, keys)[0]


class First(nn.Module):
    """Only the first of the positions is read."""

    def __init__(self):
        super().__init__()
        self.norm, self.out = nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.norm(x)[:, 0])


def encoder(**more):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **more)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


MODELS = {
    "layer norm": lambda: (nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), (5, 4)),
    "no bias": lambda: (
        nn.Sequential(nn.LayerNorm(4, bias=False), nn.Linear(4, 3, bias=False)),
        (5, 4),
    ),
    "rms norm": lambda: (nn.Sequential(nn.RMSNorm(4), nn.Linear(4, 3)), (5, 4)),
    "written out": lambda: (Gemma(), (5, 4)),
    "images": lambda: (Images(), (2, 5, 5, 4)),
    "first": lambda: (First(), (2, 3, 4)),
    "parts of one weight": lambda: (Cross(), (2, 4, 8)),
    "no bias to give": lambda: (
        nn.Sequential(nn.RMSNorm(8), nn.LSTM(8, 4, bias=False)),
        (2, 4, 8),
    ),
    "pre-norm": lambda: (encoder(norm_first=True), (2, 3, 8)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_gain_goes_into_the_maps_that_read_it(kind):
    build, sizes = MODELS[kind]()
    model, x = drawn(build, *sizes)
    mended, proof = done(fold_layer_norm_gamma, model, x)
    assert change(model, mended, x) < 1e-14
    assert proof.identity_ulps < 64
    assert proof.changed


def test_the_fold_is_the_one_that_is_known():
    model, x = drawn(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), 5, 4)
    norm, layer = model
    mended, _ = done(fold_layer_norm_gamma, model, x)
    torch.testing.assert_close(mended[1].weight, layer.weight * norm.weight)
    bias = layer.bias + layer.weight @ norm.bias
    torch.testing.assert_close(mended[1].bias, bias)


def test_dropped_the_norm_is_as_if_built_without():
    model, x = drawn(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), 5, 4)
    mended, _ = done(fold_layer_norm_gamma, model, x)
    assert not mended[0].elementwise_affine
    assert list(mended.state_dict()) == ["1.weight", "1.bias"]
    assert offers(fold_layer_norm_gamma, mended, x) == []


def test_with_zero_the_names_stay_and_the_gain_is_1():
    model, x = drawn(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), 5, 4)
    mended, _ = done(fold_layer_norm_gamma, model, x, "zero")
    assert list(mended.state_dict()) == list(model.state_dict())
    assert mended[0].weight.tolist() == [1.0] * 4
    assert mended[0].bias.tolist() == [0.0] * 4
    assert not mended[0].weight.requires_grad
    assert done(fold_layer_norm_gamma, mended, x, "zero")[1] is None


def test_every_norm_of_a_llama_but_that_of_a_tied_output():
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    data = {"input_ids": torch.randint(11, (2, 5))}
    *gains, last = offers(fold_layer_norm_gamma, model, data)
    layer = "model.layers.0.{}layernorm.weight".format
    assert [g.place for g in gains] == [layer("input_"), layer("post_attention_")]
    assert last.place == "model.norm.weight"
    assert "shared with" in last.why
    act = partial(_act, offers=gains, way="zero")
    proof = certify(model, act, data, claim=Safety.EVAL_ONLY)
    assert proof.holds
    assert proof.identity_ulps < 64


class Reads(nn.Module):
    """A norm and a map, used in ways in which the gain must stay."""

    def __init__(self, how):
        super().__init__()
        self.how, bias = how, how != "no bias to carry beta"
        self.norm, self.map = nn.LayerNorm(4), nn.Linear(4, 4, bias=bias)

    def forward(self, x):
        x = self.norm(x)
        if self.how == "map twice":
            return self.map(self.map(x).relu())
        if self.how == "norm twice":
            return self.map(self.norm(x))
        if self.how == "residual":
            return self.map(x) + x
        return self.map(x)


REFUSED = {
    "map twice": "map.weight is used more than once",
    "norm twice": "norm.weight is used more than once",
    "no bias to carry beta": "norm.bias is not 0 and cannot go along",
}


@pytest.mark.parametrize("how", REFUSED)
def test_refused(how):
    model, x = drawn(Reads(how), 5, 4)
    assert REFUSED[how] in refusal(fold_layer_norm_gamma, model, x)


@pytest.mark.parametrize("place", ["0.0", "0", "1"])
def test_hooks_are_refused(place):
    block = nn.Sequential(nn.LayerNorm(4))
    model, x = drawn(nn.Sequential(block, nn.Linear(4, 3)), 5, 4)
    model.get_submodule(place).register_forward_hook(lambda *_: None)
    assert "has hooks" in refusal(fold_layer_norm_gamma, model, x)


def test_a_beta_of_0_need_not_be_carried():
    model, x = drawn(Reads("no bias to carry beta"), 5, 4)
    model.norm.bias.data.zero_()
    mended, proof = done(fold_layer_norm_gamma, model, x)
    assert change(model, mended, x) < 1e-14
    assert proof.holds


@pytest.mark.parametrize("model", [Reads("residual"), encoder(), nn.LayerNorm(8)])
def test_nothing_is_said_of_a_norm_that_others_than_maps_read(model):
    model, x = drawn(model, 2, 3, 4 if isinstance(model, Reads) else 8)
    assert offers(fold_layer_norm_gamma, model, x) == []


def test_in_training_the_gain_stays():
    model, x = drawn(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3)), 5, 4)
    assert offers(fold_layer_norm_gamma, model, x, goal="training") == []


def test_products_that_are_too_small_for_the_dtype_are_refused():
    generator = torch.Generator().manual_seed(0)
    layers = nn.RMSNorm(256), nn.Linear(256, 4, bias=False)
    model = nn.Sequential(*layers, nn.Linear(4, 4, bias=False)).half()
    with torch.no_grad():
        layers[0].weight.fill_(1e-4)
        layers[1].weight.copy_(1e-3 * torch.randn(4, 256, generator=generator))
        model[2].weight.copy_(100 * torch.randn(4, 4, generator=generator))
    x = torch.randn(16, 256, generator=generator).half()
    _, found = plumbob.fix(model, x, select="fold-layer-norm-gamma")
    (refused,) = found.refused
    assert "rounds too coarsely" in refused.why


def test_what_another_rewrite_prepares_is_not_told_as_refused():
    layers = nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 2)
    model, x = drawn(nn.Sequential(*layers, nn.Tanh()).float(), 5, 3)
    both = ["fold-layer-norm-beta", "fold-layer-norm-gamma"]
    _, found = plumbob.fix(model.float(), x.float(), select=both)
    done = [certificate.rewrite for certificate in found.certificates]
    assert done == both
    assert found.refused == []
