"""An instance norm removes what is the same at all positions of a channel."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, cleared
from plumbob.mending.plan import Plan


def drop_bias_before_instance_norm(plan: Plan) -> Iterator[Offered]:
    """Take away a bias that an instance norm subtracts.

    Why:
        Nothing depends on it, in training or inference, and Adam moves it on
        rounding noise.

    Exact when:
        The norm uses the statistics of its input, and the bias is the same at
        all positions that it averages (no zero padding in between).

    References:
        Ulyanov, Vedaldi and Lempitsky (2016), Instance normalization, section
        2.
    """
    for proof in plan.null("instance-norm"):
        yield cleared(
            plan, proof, rewrite="drop-bias-before-instance-norm", code="PB302"
        )
