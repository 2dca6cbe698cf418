"""softmax(q.(k + b)) = softmax(q.k + q.b) = softmax(q.k): q.b is one for all keys."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, cleared
from plumbob.mending.plan import Plan


def drop_key_bias(plan: Plan) -> Iterator[Offered]:
    """Take away a key bias, which the softmax over keys removes.

    Why:
        Nothing depends on it; with Adam it wanders on rounding noise, and it
        costs digits of the scores in low precision.

    Exact when:
        In training and inference: every key has the bias and the scores go to a softmax
        over the keys by sums and products only. Masks, temperatures and position
        biases that are added do no harm.

    Not when:
        A rotary embedding (RoPE) or a norm of the keys (QK-norm) stands after the
        bias. Scores of positions read the keys (DeBERTa), or they are capped. A
        softmax plus one, a learned sink, a prefix or `add_bias_kv` and `add_zero_attn`
        give keys without the bias. Attention is sigmoid or linear. The query bias is
        no such bias: it adds b.k, which differs from key to key.

    Side effects:
        Keys in a cache that were made with the bias must not be mixed with new ones. In
        packed projections (nn.MultiheadAttention) the key rows are 0 and stay; nothing
        holds them there in training.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> class Attention(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        ...
        ...     def forward(self, x):
        ...         scores = self.q(x) @ self.k(x).mT / 8**0.5
        ...         return scores.softmax(-1) @ self.v(x)
        >>> model, x, name = Attention(), torch.randn(2, 5, 8), "drop-key-bias"
        >>> fixed, proof = plumbob.fix(model, x, goal="training", select=name)
        >>> proof.removed, torch.allclose(fixed(x), model(x), atol=1e-6)
        (('k.bias',), True)

    References:
        Namazifar, Hazarika and Hakkani-Tur (2023), Role of bias terms in
        dot-product attention (arXiv 2302.08626).
    """
    for proof in plan.null("softmax-key"):
        yield cleared(plan, proof, rewrite="drop-key-bias", code="PB303")
