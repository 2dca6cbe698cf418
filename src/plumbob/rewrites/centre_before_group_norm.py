"""A group norm removes one number that is added to all channels of a group."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, centred, cleared
from plumbob.mending.plan import Plan


def centre_before_group_norm(plan: Plan) -> Iterator[Offered]:
    """Take each group's mean off a bias that is read by a group norm.

    Why:
        So many directions as groups are lost; where a group is one channel the
        whole bias is.

    Exact when:
        The bias is the same at all positions, and its groups are the norm's or
        lie within them.

    References:
        Wu and He (2018), Group normalization, section 3.
    """
    for direction in ("constant", "group", "each"):
        for proof in plan.null("group-norm", direction=direction):
            move = cleared if direction == "each" else centred
            yield move(plan, proof, rewrite="centre-before-group-norm", code="PB307")
