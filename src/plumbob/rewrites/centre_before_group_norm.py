"""GN(x + c_g) = GN(x): a group norm removes one number per group of channels."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, centred, cleared
from plumbob.mending.plan import Plan


def centre_before_group_norm(plan: Plan) -> Iterator[Offered]:
    """Take each group's mean off a bias, or a weight, that a group norm reads.

    Why:
        So many directions as groups are lost; where a group is one channel the
        whole bias is, and goes.

    Exact when:
        In training and inference: the bias is the same at all positions, and its
        groups are the norm's or lie within them. A weight: where there is one position
        only, as what it adds differs between positions.

    Not when:
        An activation, a convolution that pads with zeros, a pooling that counts its
        padding, or in training a dropout stands between; the map has another reader;
        the norm is an RMS norm, which subtracts no mean.

    Side effects:
        None but that the values differ: those of one group sum to 0.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4))
        >>> model[0].bias.data = torch.tensor([1.0, 3.0, 10.0, 20.0])
        >>> x, name = torch.randn(8, 3, 6, 6), "centre-before-group-norm"
        >>> fixed, proof = plumbob.fix(model, x, goal="training", select=name)
        >>> fixed[0].bias.tolist()  # less 2 in the first group, 15 in the second
        [-1.0, 1.0, -5.0, 5.0]
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        Wu and He (2018), Group normalization, section 3.
    """
    for proof in plan.common("group-norm"):
        yield centred(plan, proof, rewrite="centre-before-group-norm", code="PB307")
    for proof in plan.null("group-norm"):
        yield cleared(plan, proof, rewrite="centre-before-group-norm", code="PB307")
