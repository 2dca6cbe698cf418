"""softmax(z + c 1) = softmax(z)."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, centred, cleared
from plumbob.mending.plan import Plan


def centre_logits(plan: Plan) -> Iterator[Offered]:
    """Take the mean off biases and columns of weights that softmax reads.

    Why:
        Logits that are centred can be read and compared one by one.

    Exact when:
        The model itself returns what comes after the softmax (or after argmax,
        or differences), never the logits.

    References:
        Bridle (1990), Probabilistic interpretation of feedforward
        classification network outputs, section 2.
    """
    ends = ("softmax", "argmax", "difference")
    for proof in plan.common(*ends):
        yield centred(plan, proof, rewrite="centre-logits", code="PB306")
    for proof in plan.null(*ends):
        yield cleared(plan, proof, rewrite="centre-logits", code="PB306")
