"""sum_j p_j (v_j + b) = sum_j p_j v_j + b, where the p_j sum to one: b passes."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, folded
from plumbob.mending.plan import Plan

LAYER_NORMS = {"layer_norm", "native_layer_norm"}


def fold_value_bias(plan: Plan) -> Iterator[Offered]:
    """Move a value bias through attention into the bias of the output projection.

    Why:
        The two largely cancel in trained models, so that neither can be read
        alone.

    Exact when:
        In inference: the weights of attention sum to one for every query, all values
        carry the bias, and the projection has a bias of its own. Heads may share values
        (GQA by `enable_gqa`, or repeated by `expand`, `repeat_interleave`, `repeat` or
        `cat`): W_o then takes each value once per query head. Projections may be
        packed.

    Not when:
        A row may be masked as a whole: PyTorch returns 0 there, without the bias. A
        mask is applied after the softmax. A softmax plus one, a sink, `add_bias_kv` or
        `add_zero_attn` take part of the weight. Attention is sigmoid or linear. In
        training, dropout of the weights makes them sum to something else. Exact too,
        but not followed: attention by `einsum`, and one head for all by `expand`.

    Side effects:
        Values in a cache that were made with the bias must not be mixed with new ones.
        In packed projections the value rows are 0 and stay.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.MultiheadAttention(4, 2, batch_first=True)
        >>> value = nn.init.normal_(model.in_proj_bias)[8:].detach()
        >>> x = torch.randn(2, 5, 4)
        >>> fixed, proof = plumbob.fix(model, (x, x, x), select="fold-value-bias")
        >>> fixed.in_proj_bias[8:].tolist()
        [0.0, 0.0, 0.0, 0.0]
        >>> moved = model.out_proj.weight @ value  # to a bias of 0
        >>> torch.allclose(fixed.out_proj.bias, moved, atol=1e-6)
        True
        >>> torch.allclose(fixed(x, x, x)[0], model(x, x, x)[0], atol=1e-5)
        True

    References:
        Namazifar, Hazarika and Hakkani-Tur (2023), Role of bias terms in
        dot-product attention (arXiv 2302.08626). Nanda and Bloom (2022),
        TransformerLens, `fold_value_biases`.
    """
    for proof in plan.gauges():
        if "attention" in proof.through and proof.source not in LAYER_NORMS:
            yield folded(plan, proof, rewrite="fold-value-bias", code="PB304")
