"""(z + b) - mean(z + b) = z - mean(z): a batch norm removes the bias before it."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, cleared, folded
from plumbob.mending.plan import Plan


def drop_bias_before_batch_norm(plan: Plan) -> Iterator[Offered]:
    """Take away a bias that a batch norm subtracts with the batch's mean.

    Why:
        Its gradient is 0 but for rounding noise, which Adam scales up to whole
        steps.

    Exact when:
        In training always; in inference the running mean gives the bias up, so
        the norm must read this map and nothing but it, with nothing in between.

    References:
        Ioffe and Szegedy (2015), Batch normalization, section 3.2.
    """
    for proof in plan.proofs:
        if proof.by == "batch-norm" and proof.direction == "each":
            sole = proof.norm or getattr(proof, plan.goal) == "null"
            move = cleared if sole else folded
            yield move(plan, proof, rewrite="drop-bias-before-batch-norm", code="PB301")
