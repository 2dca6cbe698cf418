"""V(W x + b) + c = V W x + (c + V b): a bias goes through the map that reads it."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, folded
from plumbob.mending.plan import Plan

LAYER_NORMS = {"layer_norm", "native_layer_norm"}


def fold_stacked_bias(plan: Plan) -> Iterator[Offered]:
    """Move a bias through the next affine map into that one's bias.

    Why:
        Nothing bends between the two, so that one bias does for both.

    Exact when:
        In inference: all that reads the map is affine with a bias of its own;
        convolutions that read it have no zero padding.

    Not when:
        An activation stands between, be it ReLU6 or another that is linear in the
        middle. A convolution pads with zeros, where b is missing: at the border it
        would be another bias (circular, reflected and replicated padding are values of
        the map, and do). The map's values are returned too. In training, where dropout
        may stand between.

    Side effects:
        None but those of all that goes. Where both weights may be merged,
        merge-stacked-linear takes the whole map.

    Example:
        >>> import torch
        >>> import plumbob
        >>> from torch import nn
        >>> pad = {"padding": 1, "padding_mode": "circular"}
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, **pad))
        >>> x = torch.randn(2, 3, 7, 7)
        >>> fixed, proof = plumbob.fix(model, x, select="fold-stacked-bias")
        >>> taps = model[1].weight.sum((2, 3))
        >>> moved = model[1].bias + taps @ model[0].bias
        >>> proof.removed, torch.allclose(fixed[1].bias, moved, atol=1e-6)
        (('0.bias',), True)
        >>> torch.allclose(fixed(x), model(x), atol=1e-5)
        True

    References:
        Goodfellow, Bengio and Courville (2016), Deep learning, section 6.1.
    """
    for proof in plan.gauges():
        passes = "map" in proof.through and "attention" not in proof.through
        if proof.by == "bias" and passes and proof.source not in LAYER_NORMS:
            yield folded(plan, proof, rewrite="fold-stacked-bias", code="PB310")
