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
        Each reader is affine with a bias of its own, or adds the values to a
        branch that ends in one (the residual of a post-norm layer); nobody
        else, no output, reads them. In inference: dropout in between scales
        values at random.

    References:
        Elhage et al. (2021), A mathematical framework for transformer circuits,
        appendix on layer norm.
    """
    for proof in plan.gauges():
        if proof.source in LAYER_NORMS:
            yield folded(plan, proof, rewrite="fold-layer-norm-beta", code="PB309")
