"""What the tests of proofs share: models, inputs, and the proofs as plain rows."""

import torch
from torch import nn

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
