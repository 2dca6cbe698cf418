"""Where a bias that looks redundant counts after all: each by its name, unproved.

The networks differ from one in which the theorem holds by one thing only, and the
outputs are seen to follow the bias, so that silence is right.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nullity import doubles, randomised
from plumbob.survey.shift import proofs
from plumbob.survey.trace import export
from theorems import Attend, normals


class Wired(nn.Module):
    """Layers by name, wired by a function."""

    def __init__(self, wire, **layers):
        super().__init__()
        self.wire = wire
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs):
        return self.wire(self, *inputs)


def claims(model, *inputs, training, of):
    """Return the proofs about a parameter, and whether an output follows it."""
    torch.manual_seed(0)
    model, inputs = randomised(model).train(training), doubles(inputs)
    graph = export(model, inputs, {}, training=training)
    found = proofs(model, *((graph, None) if training else (None, graph)))

    def output():
        torch.manual_seed(1)
        with torch.no_grad():
            return model(*inputs)

    before, bias = output(), model.get_parameter(of)
    with torch.no_grad():
        bias += normals(*bias.shape).to(bias)
    seen = float((output() - before).abs().max()) > 1e-6
    return [p for p in found if p.parameter == of], seen


def attention(score, **layers):
    three = {name: nn.Linear(8, 8) for name in "qkv"}
    return Wired(lambda m, x: score(m, m.q(x), m.k(x), m.v(x)), **three, **layers)


def rotated(x):
    """Rotate pairs by the position, as RoPE does."""
    angle = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)[:, None]
    a, b = x.chunk(2, -1)
    return torch.cat(
        [a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1
    )


def softmax1(scores):
    return scores.exp() / (1 + scores.exp().sum(-1, keepdim=True))


def sunk(m, q, k, v):
    """A learned score that takes part in the softmax and has no value."""
    scores = torch.cat([q @ k.mT / 8, m.sink.weight.expand(len(q), 5, 1)], -1)
    return scores.softmax(-1)[..., :-1] @ v


def relative(m, q, k, v):
    """Position to content: the key meets positions that differ from key to key."""
    by_place = (k * m.place.weight).sum(-1)[:, None]
    return ((q @ k.mT + by_place) / 8).softmax(-1) @ v


def prefixed(m, q, k, v):
    keys = torch.cat([m.place.weight.expand(len(k), 5, 8), k], 1)
    return (q @ keys.mT / 8).softmax(-1) @ torch.cat([v, v], 1)


ATTENTION = {
    "RoPE after the bias": lambda m, q, k, v: (q @ rotated(k).mT / 8).softmax(-1) @ v,
    "norm of the keys": lambda m, q, k, v: (
        (q @ functional.normalize(k, dim=-1).mT).softmax(-1) @ v
    ),
    "position to content": relative,
    "sigmoid attention": lambda m, q, k, v: (q @ k.mT / 8).sigmoid() @ v,
    "softmax plus one": lambda m, q, k, v: softmax1(q @ k.mT / 8) @ v,
    "learned sink": sunk,
    "soft-cap of the scores": lambda m, q, k, v: (q @ k.mT).tanh().softmax(-1) @ v,
    "linear attention": lambda m, q, k, v: q @ (k.mT @ v),
    "prefix keys without the bias": prefixed,
}
VALUES = {
    "mask after the softmax": lambda m, q, k, v: (q @ k.mT / 8).softmax(-1).tril() @ v,
    "dropout of the probabilities": lambda m, q, k, v: (
        functional.dropout((q @ k.mT / 8).softmax(-1), 0.5, m.training) @ v
    ),
    "sigmoid attention": ATTENTION["sigmoid attention"],
    "softmax plus one": ATTENTION["softmax plus one"],
    "learned sink": sunk,
}


@pytest.mark.parametrize("which", ATTENTION)
def test_key_bias(which):
    layers = {"sink": nn.Linear(1, 1, bias=False), "place": nn.Linear(8, 5, bias=False)}
    model = attention(ATTENTION[which], **layers)
    found, seen = claims(model, normals(3, 5, 8), training=False, of="k.bias")
    assert seen
    assert found == []


@pytest.mark.parametrize("which", VALUES)
def test_value_bias(which):
    layers = {"sink": nn.Linear(1, 1, bias=False), "out": nn.Linear(8, 8)}
    score = VALUES[which]
    model = attention(lambda m, *a: m.out(score(m, *a)), **layers)
    found, seen = claims(model, normals(3, 5, 8), training=True, of="v.bias")
    assert seen
    assert found == []


def test_query_bias():
    model = attention(lambda m, q, k, v: (q @ k.mT / 8).softmax(-1) @ v)
    assert claims(model, normals(3, 5, 8), training=False, of="q.bias") == ([], True)


@pytest.mark.parametrize("option", ["add_zero_attn", "add_bias_kv"])
def test_packed_attention_with_a_key_more(option):
    """The added key and value do not carry the biases of the others."""
    model = Attend(**{option: True})
    found, seen = claims(
        model, normals(3, 5, 16), training=False, of="attend.in_proj_bias"
    )
    assert seen
    assert found == []


def test_value_bias_under_a_mask_that_may_hide_every_key():
    def score(m, x, mask):
        z = functional.scaled_dot_product_attention(m.q(x), m.k(x), m.v(x), mask)
        return m.out(z)

    layers = {name: nn.Linear(8, 8) for name in ("q", "k", "v", "out")}
    mask = torch.ones(3, 5, 5, dtype=torch.bool)
    mask[0, 0] = False
    inputs = normals(3, 5, 8), mask
    found, _ = claims(Wired(score, **layers), *inputs, training=False, of="v.bias")
    assert found == []


NORMS = {
    "dropout": (nn.Dropout(0.5), nn.BatchNorm2d(4)),
    "an activation": (nn.SiLU(), nn.BatchNorm2d(4)),
    "zero-padded convolution": (nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)),
    "pooling that counts its padding": (nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(4)),
    "transposed convolution": (nn.ConvTranspose2d(4, 4, 3, 2), nn.BatchNorm2d(4)),
    "padding by zeros": (nn.ZeroPad2d(1), nn.BatchNorm2d(4)),
    "RMS norm": (nn.Identity(), nn.RMSNorm([4, 6, 6])),
    "frozen batch norm of a gate": (nn.GLU(1), nn.BatchNorm2d(2)),
}


@pytest.mark.parametrize("which", NORMS)
def test_bias_before_a_norm(which):
    between, norm = NORMS[which]
    model = nn.Sequential(nn.Conv2d(3, 4, 1), between, norm)
    found, seen = claims(model, normals(5, 3, 6, 6), training=True, of="0.bias")
    assert seen
    assert found == []


def test_frozen_batch_norm_sees_the_bias_in_training():
    """It is a gauge of the running mean, not nothing."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model[1].requires_grad_(False)
    graph = export(model.eval(), (normals(5, 3, 6, 6),), {}, training=True)
    (proof,) = (p for p in proofs(model, graph, None) if p.parameter == "0.bias")
    assert (proof.training, proof.carriers) == ("gauge", ("1.running_mean",))


GATES = {
    "gate": lambda m, x: m.norm(m.a(x) * m.b(x).sigmoid()),
    "a second reader": lambda m, x: m.norm(m.a(x)) + m.a(x).tanh(),
    "one tensor subtracted from another": lambda m, x: (
        (m.a(x) - m.b(x)).tanh() * 2 + m.a(x)
    ),
    "a deviation from another's mean": lambda m, x: m.a(x) - m.b(x).mean(1, True),
    "cosine": lambda m, x: functional.normalize(m.a(x), dim=1),
    "soft-capped logits": lambda m, x: m.a(x).tanh().softmax(1),
    "sigmoid": lambda m, x: m.a(x).sigmoid(),
    "z-loss": lambda m, x: m.a(x).log_softmax(1) + m.a(x).logsumexp(1, True),
    "tied unembedding": lambda m, x: m.norm(m.a(x)) @ m.a.bias[:, None],
}


@pytest.mark.parametrize("which", GATES)
def test_wirings(which):
    layers = {"a": nn.Linear(5, 6), "b": nn.Linear(5, 6), "norm": nn.LayerNorm(6)}
    model = Wired(GATES[which], **layers)
    found, seen = claims(model, normals(20, 5), training=False, of="a.bias")
    assert seen
    assert [p for p in found if "b.bias" not in p.carriers] == []


def test_layer_norm_removes_the_constant_only():
    model = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6))
    found, seen = claims(model, normals(20, 5), training=True, of="0.bias")
    assert seen
    assert [(p.direction, p.directions, p.by) for p in found] == [
        ("constant", 1, "layer-norm")
    ]


def test_the_new_gate_of_a_gru_keeps_both_biases():
    found, _ = claims(
        Wired(lambda m, x: m.gru(x)[0], gru=nn.GRU(3, 4)),
        normals(5, 6, 3), training=True, of="gru.bias_hh_l0",
    )  # fmt: skip
    assert [(p.rows, p.by, p.carriers) for p in found] == [
        ((0, 8), "rnn", ("gru.bias_ih_l0",))
    ]


def test_a_shared_layer_moves_as_one():
    """Before a norm at its first call, before none at its second."""
    model = Wired(
        lambda m, x: m.a(m.norm(m.a(x))).tanh(), a=nn.Linear(6, 6), norm=nn.LayerNorm(6)
    )
    assert claims(model, normals(20, 6), training=True, of="a.bias") == ([], True)
