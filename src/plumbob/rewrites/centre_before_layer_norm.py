"""A layer norm removes one number that is added to all its inputs."""

from collections.abc import Iterator

from plumbob.mending.moves import Offered, centred
from plumbob.mending.plan import Plan


def centre_before_layer_norm(plan: Plan) -> Iterator[Offered]:
    """Take the mean off biases, columns of weights and rows of tables.

    Why:
        So many directions as inputs of the weight are lost, and one of the bias;
        without them values can be compared, averaged and merged.

    Exact when:
        Every path ends in a layer norm over all units, or in something else
        that removes a constant. W x + 1 (a.x) is W x then, and a row of a
        table may be moved by a number of its own. A matrix with another
        reader, as an embedding that is the output layer too, stays.

    References:
        Ba, Kiros and Hinton (2016), Layer normalization, section 3. Ashkboos
        et al. (2024), SliceGPT, section 3.
    """
    for proof in plan.common("layer-norm"):
        yield centred(plan, proof, rewrite="centre-before-layer-norm", code="PB305")
