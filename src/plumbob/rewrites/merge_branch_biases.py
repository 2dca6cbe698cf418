"""(f(x) + b) + (g(x) + c) = f(x) + (g(x) + (b + c)): summed branches need one bias."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, folded
from plumbob.mending.plan import Plan

LAYER_NORMS = {"layer_norm", "native_layer_norm"}


def merge_branch_biases(plan: Plan) -> Iterator[Offered]:
    """Add the bias of one of two summed branches to that of the other.

    Why:
        Only the sum counts; each of them by itself means nothing.

    Exact when:
        The branches are added with nothing in between, and the other branch
        ends in a bias of its own.

    References:
        He et al. (2016), Deep residual learning for image recognition, section
        3.
    """
    for proof in plan.gauges():
        if (
            proof.by == "bias"
            and "add" in proof.through
            and not ({"map", "attention"} & set(proof.through))
            and proof.source not in LAYER_NORMS
        ):
            yield folded(plan, proof, rewrite="merge-branch-biases", code="PB313")
