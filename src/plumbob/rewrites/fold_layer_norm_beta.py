"""W(n + beta) + b = W n + (b + W beta): a layer norm's bias goes to its readers."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, folded
from plumbob.mending.plan import Plan

LAYER_NORMS = {"layer_norm", "native_layer_norm"}


def fold_layer_norm_beta(plan: Plan) -> Iterator[Offered]:
    """Move the bias of a layer norm into the biases of all that reads it.

    Why:
        The norm is left with one vector of its own, and each reader holds its
        whole bias.

    Exact when:
        In inference: each reader is affine with a bias of its own, or adds the values
        to a branch that ends in one (the residual of a post-norm layer, as in BERT);
        nobody else, no output, reads them.

    Not when:
        The values are returned (hidden states, the last norm of a post-norm net). A
        reader has no bias (the output layer of GPT-2), pads with zeros, or is used
        elsewhere too. In training, where dropout in between scales the values at
        random, and decay and steps of one bias differ from those of another.

    Side effects:
        The biases of queries, keys and values carry W beta: a key bias that was 0 is
        not any more, until drop-key-bias.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))
        >>> beta = model[0].bias.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> x = torch.randn(8, 4)
        >>> fixed, proof = plumbob.fix(model, x, select="fold-layer-norm-beta")
        >>> proof.removed, proof.before, proof.after
        (('0.bias',), 18, 14)
        >>> torch.allclose(fixed[1].bias, model[1].bias + model[1].weight @ beta)
        True
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        Elhage et al. (2021), A mathematical framework for transformer circuits,
        model simplifications.
    """
    for proof in plan.gauges():
        if proof.source in LAYER_NORMS:
            yield folded(plan, proof, rewrite="fold-layer-norm-beta", code="PB309")
