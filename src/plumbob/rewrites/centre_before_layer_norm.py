"""A layer norm removes one number that is added to all its inputs."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, centred
from plumbob.mending.plan import Plan


def centre_before_layer_norm(plan: Plan) -> Iterator[Offered]:
    """Take the mean off a bias that is read by layer norms.

    Why:
        One direction of the parameter is lost; without it values can be
        compared, averaged and merged.

    Exact when:
        Every path ends in a layer norm over all units, or in something else
        that removes a constant.

    References:
        Ba, Kiros and Hinton (2016), Layer normalization, section 3.
    """
    for direction in ("constant", "group"):
        for proof in plan.null("layer-norm", direction=direction):
            yield centred(plan, proof, rewrite="centre-before-layer-norm", code="PB305")
