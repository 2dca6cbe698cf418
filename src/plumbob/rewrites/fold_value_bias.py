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
        The weights of attention sum to one for every query (no dropout on them,
        no fully masked rows, no sink), all values carry the bias, and the
        projection has a bias of its own.

    References:
        Elhage et al. (2021), A mathematical framework for transformer circuits,
        section on attention biases.
    """
    for proof in plan.gauges():
        if "attention" in proof.through and proof.source not in LAYER_NORMS:
            yield folded(plan, proof, rewrite="fold-value-bias", code="PB304")
