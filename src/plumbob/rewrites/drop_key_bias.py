"""softmax(q.(k + b)) = softmax(q.k + q.b) = softmax(q.k): q.b is one for all keys."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, cleared
from plumbob.mending.plan import Plan


def drop_key_bias(plan: Plan) -> Iterator[Offered]:
    """Take away a key bias, which the softmax over keys removes.

    Why:
        Nothing depends on it; with Adam it wanders on rounding noise, and it
        costs digits of the scores in low precision.

    Exact when:
        Every key has the bias and the scores go to a softmax over the keys by
        sums and products only: no rotary embedding or norm after the bias, no
        sink, no keys without it, no soft cap.

    References:
        Namazifar, Hazarika and Hakkani-Tur (2023), Role of bias terms in dot-
        product attention, section 3.
    """
    for proof in plan.null("softmax-key"):
        yield cleared(plan, proof, rewrite="drop-key-bias", code="PB303")
