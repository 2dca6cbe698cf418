"""What the tests of proofs share: models, inputs, and the proofs as plain rows."""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from plumbob.survey.shift import proofs
from plumbob.survey.trace import export


def proved(model, *args, modes=(True, False), **kwargs):
    graphs = [
        export(model, args, kwargs, training=mode) if mode in modes else None
        for mode in (True, False)
    ]
    found = proofs(model, *graphs)
    for proof in found:
        assert proof.error is not None, proof.steps
        assert proof.error < 1e-12
        assert proof.steps
    return found


def rows(found, *, by=None, training=None, inference=None, direction="each"):
    """Return {parameter: rows} of the proofs with these verdicts."""
    return {
        p.parameter: p.rows
        for p in found
        if p.direction == direction
        and by in {None, p.by}
        and training in {None, p.training}
        and inference in {None, p.inference}
    }


def normals(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def tokens(length=7, vocabulary=50):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary, (2, length), generator=generator)


def bert(**changes):
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 50}
    config = BertConfig(**sizes, num_hidden_layers=2, num_attention_heads=4, **changes)
    return BertModel(config, add_pooling_layer=False)


class Attend(nn.Module):
    def __init__(self, width=16, **options):
        super().__init__()
        options = {"num_heads": 4, "batch_first": True} | options
        self.attend = nn.MultiheadAttention(width, **options)

    def forward(self, x):
        return self.attend(x, x, x)[0]


class Head(nn.Module):
    """Attention with one of many scores; only `score` differs."""

    def __init__(self, score):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.score = score

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.score(q, k, v)


def expanded(x, n):
    return x[:, :, None].expand(-1, -1, n, -1, -1).reshape(-1, n * x.shape[1], 5, 4)


# How heads of keys and values become as many as those of the queries
REPEATS = {
    "expand": expanded,
    "repeat_interleave": lambda x, n: x.repeat_interleave(n, dim=1),
    "repeat": lambda x, n: x.repeat(1, n, 1, 1),
    "tile": lambda x, n: x.tile((n, 1, 1)),
    "cat": lambda x, n: torch.cat([x] * n, 1),
}


def eager(q, k, v):
    return (q @ k.mT / 2).softmax(-1) @ v


class Grouped(nn.Module):
    """Attention of 4 heads of width 4 that share the keys and values of `heads`.

    `turn` is done to the keys, `options` are those of the attention.
    """

    def __init__(
        self, repeats="enable_gqa", *, heads=2, packed=False, turn=None,
        attend=scaled_dot_product_attention, **options,
    ):  # fmt: skip
        super().__init__()
        self.sizes = [16, 4 * heads, 4 * heads]
        if packed:
            self.qkv = nn.Linear(8, sum(self.sizes))
        else:
            self.q, self.k, self.v = (nn.Linear(8, size) for size in self.sizes)
        self.out = nn.Linear(16, 8)
        self.repeats, self.turn, self.attend = repeats, turn, attend
        self.options = options
        if repeats == "enable_gqa":
            self.options |= {"enable_gqa": True}

    def forward(self, x):
        if hasattr(self, "qkv"):
            q, k, v = self.qkv(x).split(self.sizes, -1)
        else:
            q, k, v = self.q(x), self.k(x), self.v(x)
        q, k, v = (t.unflatten(-1, (-1, 4)).transpose(1, 2) for t in (q, k, v))
        k = k if self.turn is None else self.turn(k)
        if self.repeats in REPEATS:
            times = q.shape[1] // k.shape[1]
            k, v = (REPEATS[self.repeats](t, times) for t in (k, v))
        y = self.attend(q, k, v, **self.options)
        return self.out(y.transpose(1, 2).flatten(2))
