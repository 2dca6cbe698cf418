"""W x + b_ih + U h + b_hh: only the sum of the two biases counts."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, folded
from plumbob.mending.plan import Plan


def merge_rnn_biases(plan: Plan) -> Iterator[Offered]:
    """Add one of the two biases of a recurrent cell to the other.

    Why:
        Two vectors do the work of one: twice the step, twice the decay.

    Exact when:
        Always, but for the candidate gate of a GRU, whose hidden bias is inside
        the product with the reset gate.

    References:
        Hochreiter and Schmidhuber (1997), Long short-term memory, section 4.
    """
    for proof in plan.gauges():
        if proof.by == "rnn":
            yield folded(plan, proof, rewrite="merge-rnn-biases", code="PB308")
