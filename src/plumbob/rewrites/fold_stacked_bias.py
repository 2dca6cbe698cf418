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
        All that reads the map is affine with a bias of its own; convolutions
        that read it have no zero padding.

    References:
        Goodfellow, Bengio and Courville (2016), Deep learning, section 6.1.
    """
    for proof in plan.gauges():
        passes = "map" in proof.through and "attention" not in proof.through
        if proof.by == "bias" and passes and proof.source not in LAYER_NORMS:
            yield folded(plan, proof, rewrite="fold-stacked-bias", code="PB310")
