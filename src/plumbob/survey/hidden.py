"""Units that nothing but maps reads: what lies between them, and what they can be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, fx

from plumbob.survey.affine import CONVOLUTIONS, Affine, affine
from plumbob.survey.bounds import BATCH_NORM, Ends, normed
from plumbob.survey.graph import Graph
from plumbob.survey.intervals import MEANS, MOVED, PADS, POINTWISE, POOLS, of_one
from plumbob.survey.lanes import Lane, carry
from plumbob.survey.ops import DROPOUT, MAX_POOLS, op, shape
from plumbob.survey.views import View, views

MAPS = {"linear", "conv", "conv-transpose"}
PRODUCTS = {"linear", "addmm"} | CONVOLUTIONS
APART = (
    MOVED | DROPOUT | MAX_POOLS | MEANS | POOLS | PADS | POINTWISE | {"getitem"}
) - {"repeat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """The units of one map, and all that is computed of them up to the next maps.

    `between` are the nodes on the way, in order, each of which treats every unit by
    itself, with the node that each reads; `norms` the batch norms among them. With
    norms and `readers` stands how many channels or columns in a row belong to a unit.
    `obstacles` are what keeps these from being all.
    """

    use: Affine
    between: Mapping[fx.Node, fx.Node]
    norms: tuple[tuple[fx.Node, int], ...]
    readers: tuple[tuple[Affine, int], ...]
    obstacles: tuple[str, ...]


def hidden(graph: Graph) -> Iterator[Hidden]:
    """Yield the units of each linear map and convolution of a graph."""
    known = views(graph)
    maps: dict[fx.Node, Affine] = {}
    for node in graph.module.graph.nodes:
        uses = [] if node in known else list(affine(node, known))
        if len(uses) == 1 and uses[0].kind in MAPS:
            maps[node] = uses[0]
    why_not = {use.node: _obstacle(use, known) for use in maps.values()}
    for use in maps.values():
        yield _from(use, maps, why_not, known)


def ancestors(node: fx.Node, graph: Graph) -> frozenset[str]:
    """Return the parameters that a node is computed from."""
    met, todo = set[fx.Node](), [node]
    while todo:
        at = todo.pop()
        if at not in met:
            met.add(at)
            todo += at.all_input_nodes
    names = graph.parameters
    return frozenset(names[each.name] for each in met if each.name in names)


def spread(found: Hidden, z: Ends, values: Mapping[str, Tensor]) -> dict[fx.Node, Ends]:
    """Return what each unit lies between on the way to its readers."""
    at: dict[fx.Node, Ends] = {found.use.node: z}
    widths = dict(found.norms)
    for node, source in found.between.items():
        if node in widths:
            at[node] = _normed(node, values, at[source], widths[node])
        elif op(node) == "getitem":
            at[node] = at[source]
        else:
            pairs = zip(*at[source], strict=True)
            ends = [of_one(node, (float(low), float(high))) for low, high in pairs]
            at[node] = np.array([e[0] for e in ends]), np.array([e[1] for e in ends])
    return at


def _normed(
    node: fx.Node, values: Mapping[str, Tensor], ends: Ends, width: int
) -> Ends:
    channels = np.repeat(ends[0], width), np.repeat(ends[1], width)
    moved = normed(node, values, channels)
    if moved is None:
        return np.full_like(ends[0], -np.inf), np.full_like(ends[0], np.inf)
    low, high = (end.reshape(-1, width) for end in moved)
    return low.min(1), high.max(1)


def _obstacle(use: Affine, known: Mapping[fx.Node, View]) -> str:
    """Say why a map is not one whole weight and bias that are used here alone."""
    if use.groups != 1:
        return f"{use.weight.name} has groups"
    if op(use.node) not in PRODUCTS or use.node.kwargs:
        return f"{use.weight.name} is read by {op(use.node)}"
    return shared(use, known)


def shared(use: Affine, known: Mapping[fx.Node, View]) -> str:
    """Say which parameter of a map is not used by it alone, or not as a whole."""
    for part in (use.weight, use.bias):
        if part is None:
            continue
        readers = {
            user
            for node, view in known.items()
            if view.name == part.name
            for user in node.users
            if user not in known
        }
        if readers != {use.node} or part.cut is not None:
            return f"{part.name} is used more than once, or a part of it"
    return ""


def _from(
    use: Affine,
    maps: Mapping[fx.Node, Affine],
    why_not: Mapping[fx.Node, str],
    known: Mapping[fx.Node, View],
) -> Hidden:
    lanes: dict[fx.Node, Lane] = {use.node: Lane(use.axis_out)}
    between: dict[fx.Node, fx.Node] = {}
    norms: list[tuple[fx.Node, int]] = []
    readers: list[tuple[Affine, int]] = []
    obstacles = [why_not[use.node]]
    todo = [use.node]
    while todo:
        at = todo.pop(0)
        lane = lanes[at]
        for user in at.users:
            reader, moved = maps.get(user), None
            if op(user) == "getitem" and user.args[1] and not user.users:
                continue
            if reader and _reads(reader, at, known) and lane.axis == reader.axis_in:
                obstacles.append(why_not[user])
                readers.append((reader, lane.repeat))
                continue
            if op(user) == BATCH_NORM and user.args[0] is at:
                if lane.axis == 1 - len(shape(at)):
                    norms.append((user, lane.repeat))
                    moved = lane
            elif op(user) in APART and user.all_input_nodes == [at]:
                moved = carry(user, at, lane)
            if moved is None or (op(user) == "getitem" and user.args[1]):
                obstacles.append(f"its units are read by {op(user) or 'the caller'}")
            elif user not in lanes:
                lanes[user], between[user] = moved, at
                todo.append(user)
    return Hidden(
        use=use,
        between=between,
        norms=tuple(norms),
        readers=tuple(readers),
        obstacles=tuple(dict.fromkeys(filter(None, obstacles))),
    )


def _reads(reader: Affine, at: fx.Node, known: Mapping[fx.Node, View]) -> bool:
    live = [n for n in reader.node.all_input_nodes if n not in known]
    return reader.reads is at and live == [at]
