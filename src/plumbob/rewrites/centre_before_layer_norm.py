"""LN(x + c 1) = LN(x): a layer norm removes one number that all have."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, centred, cleared
from plumbob.mending.plan import Plan


def centre_before_layer_norm(plan: Plan) -> Iterator[Offered]:
    """Take the mean off biases, columns of weights and rows of tables.

    Why:
        So many directions as inputs of the weight are lost, and one of the bias;
        without them values can be compared, averaged and merged.

    Exact when:
        In training and inference: every path ends in a layer norm over all units, or
        in something else that removes a constant. W x + 1 (a.x) is W x then, and a row
        of a table may be moved by a number of its own. A bias whose elements are each
        the same for all units, as that of a map over positions, goes as a whole.

    Not when:
        One reader has no norm: the residual stream or hidden states are returned. The
        matrix has another reader, as an embedding that is the output layer too (tied
        unembedding). The norm is an RMS norm, which subtracts no mean. In training, a
        dropout stands between: it scales the constant apart. The values are such that
        centring them costs digits, as in bfloat16: the certificate refuses it.

    Side effects:
        None but that the values differ: columns sum to 0. An optimiser takes the same
        steps afterwards, as no gradient depends on what went.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        >>> model[0].bias.data = torch.tensor([1.0, 2.0, 3.0, 6.0])
        >>> x, name = torch.randn(8, 3), "centre-before-layer-norm"
        >>> fixed, proof = plumbob.fix(model, x, goal="training", select=name)
        >>> fixed[0].bias.tolist(), bool(fixed[0].weight.sum(0).abs().max() < 1e-6)
        ([-2.0, -1.0, 0.0, 3.0], True)
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        Ba, Kiros and Hinton (2016), Layer normalization, section 3. Ashkboos
        et al. (2024), SliceGPT, section 3.
    """
    for proof in plan.common("layer-norm"):
        yield centred(plan, proof, rewrite="centre-before-layer-norm", code="PB305")
    for proof in plan.null("layer-norm"):  # each element is one for all units
        yield cleared(plan, proof, rewrite="centre-before-layer-norm", code="PB305")
