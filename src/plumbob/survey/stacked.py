"""Which map reads another one's result as it is, with nothing that bends between."""

from collections.abc import Mapping

from torch import fx

from plumbob.survey.affine import Affine
from plumbob.survey.ops import DROPOUT, PRODUCTS, SAME, SHAPE, op
from plumbob.survey.views import View


def stacked_on(
    use: Affine, made: Mapping[fx.Node, str], known: Mapping[fx.Node, View]
) -> str | None:
    """Return the site whose result a map reads, where nothing else reads it.

    Between the two may lie a change of layout or of dtype, a dropout, a factor, or a
    parameter that is added.
    """
    at = use.reads
    while at is not None and len(at.users) == 1:
        if at in made:
            return made[at]
        live = [n for n in at.all_input_nodes if n not in known]
        moved = op(at) in SAME | SHAPE | DROPOUT
        moved |= op(at) == "getitem" and op(live[0]) in DROPOUT
        number = op(at) in PRODUCTS and len(at.all_input_nodes) == 1
        biased = op(at) == "add" and len(live) < len(at.all_input_nodes)
        if len(live) != 1 or not (moved or number or biased):
            return None
        at = live[0]
    return None
