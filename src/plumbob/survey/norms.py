"""Recognise norms that are written out in elementary operations."""

from dataclasses import dataclass, field

from torch import fx

from plumbob.survey.affine import Affine
from plumbob.survey.ops import PRODUCTS, REDUCTIONS, SAME, op, shape
from plumbob.survey.views import View

ROOTS = {"sqrt", "rsqrt", "reciprocal", "clamp_min", "clamp", "expand", "div"}
STATISTIC = REDUCTIONS | SAME | ROOTS | {"pow", "square", "mul", "add", "sub", "abs"}


@dataclass(slots=True)
class Norms:
    """`scaled` maps x / sd(x) to x and the norm's kind; `statistics` is what sd is."""

    scaled: dict[fx.Node, tuple[fx.Node, str]] = field(default_factory=dict)
    statistics: set[fx.Node] = field(default_factory=set)
    gains: dict[fx.Node, Affine] = field(default_factory=dict)


def written_out(graph: fx.Graph, known: dict[fx.Node, View]) -> Norms:
    """Find products of x with a statistic of x itself, and the gain that follows."""
    norms = Norms()
    for node in graph.nodes:
        if op(node) not in PRODUCTS:
            continue
        pair = [a for a in node.args if isinstance(a, fx.Node)]
        if len(pair) != 2:
            continue
        for x, scale in (pair, pair[::-1]):
            if op(node) == "mul" or x is node.args[0]:
                _standardise(norms, node, x, scale)
                _gain(norms, node, scale, x, known)
    return norms


def _root(node: fx.Node) -> fx.Node:
    while op(node) in SAME and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _standardise(norms: Norms, node: fx.Node, x: fx.Node, scale: fx.Node) -> None:
    """Note `node` = x * scale if scale is computed by reducing x and from x alone."""
    root = _root(x)
    sources = {root}
    if op(root) == "sub" and isinstance(root.args[0], fx.Node):
        sources.add(_root(root.args[0]))  # x minus its mean
    seen: set[fx.Node] = set()
    todo = [scale]
    while todo:
        at = todo.pop()
        if at in seen or at in sources:
            continue
        if op(at) not in STATISTIC:
            return
        seen.add(at)
        todo += at.all_input_nodes
    names = {op(n) for n in seen}
    if not names & REDUCTIONS or _root(scale) in sources:
        return
    reduced = [n for n in seen if op(n) in REDUCTIONS]
    if not any(shape(n)[-1:] == (1,) or len(shape(n)) < len(shape(x)) for n in reduced):
        return
    origin, kind = root, "l2-norm"
    if not names & {"linalg_vector_norm", "norm"}:
        kind = "rms-norm"
    if len(sources) > 1:
        mean = root.args[1]
        if isinstance(mean, fx.Node) and op(_root(mean)) == "mean":
            origin, kind = _root(root.args[0]), "layer-norm"  # type: ignore[arg-type]
            seen |= {root, mean, _root(mean)}
    norms.scaled[node] = (origin, kind)
    norms.statistics |= {n for n in seen if n not in sources or n is root is not origin}


def _gain(
    norms: Norms,
    node: fx.Node,
    gain: fx.Node,
    normed: fx.Node,
    known: dict[fx.Node, View],
) -> None:
    """Note `node` = w * normed, or (1 + w) * normed, as a norm site."""
    weight = gain
    if op(gain) == "add" and gain.all_input_nodes:
        weight = _root(gain.all_input_nodes[0])
    if weight not in known or _root(normed) not in norms.scaled:
        return
    if len(shape(weight)) != 1:
        return
    norms.gains[node] = Affine(
        node=node,
        kind="norm",
        weight=known[weight],
        out=shape(weight)[0],
        fan_in=1,
        reads=normed,
        norm=norms.scaled[_root(normed)][1],
    )
