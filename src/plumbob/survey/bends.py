"""Operations that are not affine in what comes from the model's input."""

from collections.abc import Set

from torch import fx

from plumbob.survey.graph import Graph
from plumbob.survey.neighbours import MAPS, Origins
from plumbob.survey.ops import DROPOUT, NORMS, SAME, SHAPE, op, value, words

# Whatever is not known to be affine counts as a bend.
AFFINE = (
    SAME
    | SHAPE
    | DROPOUT
    | words(
        "getitem constant_pad_nd pad add sub rsub neg mean sum cat stack slice select "
        "split split_with_sizes chunk unbind narrow index gather index_select "
        "flip roll repeat embedding tril triu cumsum im2col col2im pixel_shuffle "
        "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "pixel_unshuffle _adaptive_avg_pool2d adaptive_avg_pool3d upsample_nearest1d "
        "upsample_nearest2d upsample_nearest3d upsample_bilinear2d"
    )
    # with the statistics that it has
    | {name for name, kind in NORMS.items() if kind == "batch-norm"}
)
BY_A_CONSTANT = MAPS | words("mul")


def bends(graph: Graph, origins: Origins, known: Set[fx.Node]) -> tuple[str, ...]:
    """Return the names of all operations that bend, but for the `known` nodes."""
    names = [
        op(node)
        for node in graph.module.graph.nodes
        if node in origins.live
        and node not in known
        and op(node)
        and getattr(value(node), "is_floating_point", bool)()
        and not _affine(node, origins)
    ]
    return tuple(dict.fromkeys(names))


def _affine(node: fx.Node, origins: Origins) -> bool:
    live = [a for a in node.args if isinstance(a, fx.Node) and a in origins.live]
    if op(node) in BY_A_CONSTANT:
        return len(live) == 1
    if op(node) in {"div", "true_divide"}:
        return live == [node.args[0]]
    return op(node) in AFFINE


def gates(ends: Set[fx.Node], origins: Origins) -> bool:
    """Say whether an activation's result t, or 1 - t, multiplies what else comes in."""
    todo = list(ends)
    seen: set[fx.Node] = set()
    while todo:
        at = todo.pop()
        for user in set(at.users) - ends - seen:
            seen.add(user)
            inputs = user.all_input_nodes
            alone = not any(n in origins.live for n in inputs if n is not at)
            if op(user) == "mul" and not alone:
                return True
            if alone and (op(user) in SAME | SHAPE | {"rsub", "sub", "mul"}):
                todo.append(user)
    return False
