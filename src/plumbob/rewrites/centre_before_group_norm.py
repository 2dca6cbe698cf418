"""A group norm removes one number that is added to all channels of a group."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, centred, cleared
from plumbob.mending.plan import Plan


def centre_before_group_norm(plan: Plan) -> Iterator[Offered]:
    """Take each group's mean off a bias, or a weight, that a group norm reads.

    Why:
        So many directions as groups are lost; where a group is one channel the
        whole bias is.

    Exact when:
        The bias is the same at all positions, and its groups are the norm's or
        lie within them. A weight: where there is one position only, as what it
        adds differs between positions.

    References:
        Wu and He (2018), Group normalization, section 3.
    """
    for proof in plan.common("group-norm"):
        yield centred(plan, proof, rewrite="centre-before-group-norm", code="PB307")
    for proof in plan.null("group-norm"):
        yield cleared(plan, proof, rewrite="centre-before-group-norm", code="PB307")
