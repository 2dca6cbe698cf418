"""What is known of key biases, one kind of attention after the other."""

import pytest
import torch
from torch.nn import functional

from theorems import REPEATS, Attend, Grouped, Head, eager, normals, proved, rows


def softmaxed(change):
    def score(q, k, v):
        return change(q @ k.mT / 8**0.5).softmax(-1) @ v

    return score


def causal(scores):
    n = scores.shape[-1]
    return scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)


def finite_mask(scores):
    n = scores.shape[-1]
    return scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -1e9)


def alibi(scores):
    place = torch.arange(scores.shape[-1])
    return scores - (place[:, None] - place).abs()


def turned(x):
    angle = torch.arange(x.shape[-2])[:, None] * 0.5
    a, b = x.chunk(2, -1)
    return torch.cat(
        (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1
    )


def softmax_plus_one(q, k, v):
    weights = (q @ k.mT).exp()
    return weights / (1 + weights.sum(-1, keepdim=True)) @ v


def sink(q, k, v):
    scores = functional.pad(q @ k.mT, (0, 1))
    return scores.softmax(-1)[..., :-1] @ v


def linear(q, k, v):
    return functional.elu(q) @ (functional.elu(k).mT @ v)


EXACT = {
    "plain": softmaxed(lambda s: s),
    "causal": softmaxed(causal),
    "finite mask": softmaxed(finite_mask),
    "alibi": softmaxed(alibi),
    "temperature": softmaxed(lambda s: s / 0.3),
    "sdpa": functional.scaled_dot_product_attention,
    "sdpa causal": lambda q, k, v: functional.scaled_dot_product_attention(
        q, k, v, is_causal=True
    ),
    "bias after rope": lambda q, k, v: (turned(q) @ k.mT).softmax(-1) @ v,
}


NOT = {
    "rope": lambda q, k, v: (turned(q) @ turned(k).mT).softmax(-1) @ v,
    "norm": lambda q, k, v: (
        (functional.layer_norm(q, (8,)) @ functional.layer_norm(k, (8,)).mT).softmax(-1)
        @ v
    ),
    "rms norm": lambda q, k, v: (q @ functional.rms_norm(k, (8,)).mT).softmax(-1) @ v,
    "position of keys": lambda q, k, v: (
        (q @ k.mT + k.mean(-1)[:, None]).softmax(-1) @ v + k
    ),
    "sigmoid": lambda q, k, v: (q @ k.mT).sigmoid() @ v,
    "softmax plus one": softmax_plus_one,
    "sink": sink,
    "soft cap": softmaxed(lambda s: 5 * (s / 5).tanh()),
    "linear": linear,
    "over queries": lambda q, k, v: (q @ k.mT).softmax(-2) @ v,
    "extra key": lambda q, k, v: functional.scaled_dot_product_attention(
        q, functional.pad(k, (0, 0, 0, 1)), functional.pad(v, (0, 0, 0, 1))
    ),
}


SPELLINGS = [
    *((name, {}) for name in ("enable_gqa", *REPEATS)),
    ("enable_gqa", {"packed": True}),
    ("enable_gqa", {"heads": 1}),
    ("repeat_interleave", {"attend": eager}),
    ("repeat_interleave", {"attend": eager, "packed": True, "heads": 1}),
]


class TestGroupedHeads:
    """Several heads of queries share one of keys and values."""

    @pytest.mark.parametrize(("repeats", "how"), SPELLINGS)
    def test_the_key_bias_is_null_and_the_value_bias_a_gauge(self, repeats, how):
        model, n = Grouped(repeats, **how), 4 * how.get("heads", 2)
        found = proved(model, normals(2, 5, 8), modes=(False,))
        key, value = {"k.bias": (0, n)}, {"v.bias": (0, n)}
        if how.get("packed"):
            key, value = {"qkv.bias": (16, 16 + n)}, {"qkv.bias": (16 + n, 16 + 2 * n)}
        assert rows(found, by="softmax-key", inference="null") == key
        assert rows(found, by="bias", inference="gauge") == value
        assert {p.carriers for p in found if p.inference == "gauge"} == {("out.bias",)}

    @pytest.mark.parametrize("repeats", ["enable_gqa", *REPEATS])
    def test_false_friends(self, repeats):
        x = normals(2, 5, 8)
        hidden = torch.ones(5, 5, dtype=torch.bool).tril(-1)  # the first query's keys
        found = proved(Grouped(repeats, attn_mask=hidden), x, modes=(False,))
        assert rows(found) == {"k.bias": (0, 8)}
        found = proved(Grouped(repeats, turn=turned), x, modes=(False,))
        assert rows(found) == {"v.bias": (0, 8)}
        if repeats != "enable_gqa":
            assert not rows(proved(Grouped(repeats, attend=sink), x, modes=(False,)))


class TestAttention:
    @pytest.mark.parametrize("kind", EXACT)
    def test_the_key_bias_is_null(self, kind):
        found = proved(Head(EXACT[kind]), normals(2, 5, 8))
        nulls = rows(found, training="null", inference="null")
        assert nulls == rows(found, by="softmax-key") == {"k.bias": (0, 8)}

    @pytest.mark.parametrize("kind", NOT)
    def test_the_key_bias_counts(self, kind):
        found = proved(Head(NOT[kind]), normals(2, 5, 8))
        assert "k.bias" not in rows(found)
        assert "q.bias" not in rows(found, by="softmax-key", inference="null") or (
            kind == "over queries"
        )

    @pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
    def test_extra_keys_of_multihead_attention(self, option):
        assert not rows(proved(Attend(**{option: True}), normals(2, 5, 16)))

    def test_the_query_bias_counts_with_one_key(self):
        """With a single key softmax is constant, but not for the next batch."""
        found = proved(Head(EXACT["plain"]), normals(2, 1, 8))
        assert "q.bias" not in rows(found)

    def test_a_returned_key_counts(self):
        found = proved(
            Head(lambda q, k, v: (EXACT["plain"](q, k, v), k)), normals(2, 5, 8)
        )
        assert "k.bias" not in rows(found)
