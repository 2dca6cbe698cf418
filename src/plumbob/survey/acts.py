"""The activations of a graph: what each comes after, what reads it, where it ends."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from torch import fx, nn

from plumbob.survey.affine import Affine, affine
from plumbob.survey.bends import bends
from plumbob.survey.graph import Graph
from plumbob.survey.lanes import Lane, carry
from plumbob.survey.names import Names
from plumbob.survey.neighbours import Origins
from plumbob.survey.ops import (
    ACTIVATIONS,
    DROPOUT,
    NORMS,
    SAME,
    SHAPE,
    argument,
    op,
    shape,
)
from plumbob.survey.views import View, views
from plumbob.types import Act

NAMES = ACTIVATIONS | {"log": "log"}
MOVES = SAME | SHAPE | DROPOUT | {"getitem"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Acts:
    """All activations; `affine` and `maps` as in `Inputs`."""

    acts: tuple[Act, ...] = ()
    affine: bool = False
    maps: int = 0


@dataclass(slots=True)
class _Before:
    """The way from a map to a node: its activations and where its units lie."""

    use: Affine | None = None
    names: tuple[str, ...] = ()
    nodes: list[fx.Node] = field(default_factory=list[fx.Node])
    lane: Lane | None = None


def acts(model: nn.Module, graph: Graph, read: int | None) -> Acts:
    """Return the activations of a graph.

    `read` is the place among the output's tensors of the one that the loss reads,
    None where that is not known; an only output is read.
    """
    return _Walk(model, graph).acts(read)


class _Walk:
    def __init__(self, model: nn.Module, graph: Graph) -> None:
        self.model, self.graph = model, graph
        self.nodes = list(graph.module.graph.nodes)
        self.known: dict[fx.Node, View] = views(graph)
        self.origins = Origins(graph)
        self.names = Names(model)
        self.maps: dict[fx.Node, Affine] = {}
        for node in self.nodes:
            if node in self.origins.live and op(node):
                use = next(iter(affine(node, self.known)), None)
                if use is not None and use.kind in {"linear", "conv", "conv-transpose"}:
                    self.maps[node] = use

    def acts(self, read: int | None) -> Acts:
        target = self._output(read)
        ends = self._ends(target)
        found = [
            self._act(node, target, ends)
            for node in self.nodes
            if op(node) in NAMES and node in self.origins.live
        ]
        bent = bends(self.graph, self.origins, ends)
        return Acts(acts=tuple(found), affine=not bent, maps=self._in_a_row())

    def _in_a_row(self) -> int:
        """Return how many maps the longest way has; those side by side count once."""
        most: dict[fx.Node, int] = {}
        for node in self.nodes:
            before = max((most[n] for n in node.all_input_nodes), default=0)
            most[node] = before + (node in self.maps)
        return max(most.values(), default=0)

    def _output(self, read: int | None) -> fx.Node | None:
        """Return the node whose value the loss reads."""
        (args,) = self.nodes[-1].args
        given = args if isinstance(args, tuple | list) else (args,)
        out = [
            n for n in given if isinstance(n, fx.Node) and n.name in self.graph.outputs
        ]
        if read is None:
            return out[0] if len(out) == 1 else None
        return out[read] if read < len(out) else None

    def _ends(self, target: fx.Node | None) -> Set[fx.Node]:
        """Return the activations between the last map and the output."""
        ends = set[fx.Node]()
        at = target
        while at is not None and op(at) in NAMES.keys() | MOVES:
            if op(at) in NAMES:
                ends.add(at)
            at = next(iter(at.all_input_nodes), None)
        return ends

    def _before(self, node: fx.Node) -> _Before:
        """Go back from an activation to the map before it."""
        way = _Before()
        at = node.all_input_nodes[0]
        while op(at) in NAMES.keys() | MOVES and at.all_input_nodes:
            if op(at) in NAMES:
                way.names = (NAMES[op(at)], *way.names)
            way.nodes.insert(0, at)
            at = at.all_input_nodes[0]
        way.use = self.maps.get(at)
        if way.use is None:
            return way
        lane: Lane | None = Lane(way.use.axis_out)
        for here in (*way.nodes, node):
            lane = carry(here, at, lane)
            at = here
        way.lane = lane
        return way

    def _act(self, node: fx.Node, target: fx.Node | None, ends: Set[fx.Node]) -> Act:
        name, way = NAMES[op(node)], self._before(node)
        size, over = 0, ""
        if "softmax" in name:
            size, over = self._over(node, way, ends=node in ends)
        feeds = self._feeds(node, way.lane) if node not in ends else None
        return Act(
            name=name,
            site=self.names.of(way.use) if way.use else None,
            before=way.names,
            module=self._module(node),
            size=size,
            over=over,
            feeds=feeds,
            ends=node in ends,
            alone=bool(feeds) and self._alone(node, target),
        )

    def _over(self, node: fx.Node, way: _Before, *, ends: bool) -> tuple[int, str]:
        sizes = shape(node)
        if not sizes:
            return 0, ""
        axis = int(argument(node, 1, "dim", -1)) % len(sizes)
        if way.lane is not None and way.lane.axis == axis - len(sizes):
            return sizes[axis], "units"
        rows = {shape(n)[:1] for n in self.nodes if n.name in self.graph.inputs}
        first = ends and axis == 0 and len(sizes) > 1 and rows == {sizes[:1]}
        return sizes[axis], "samples" if first else ""

    def _feeds(self, node: fx.Node, lane: Lane | None) -> str | None:
        """Return the map that reads the units of an activation, one column each."""
        todo = [(node, lane)]
        while todo:
            at, lane = todo.pop()
            if lane is None:
                continue
            for user in at.users:
                use = self.maps.get(user)
                if use is not None:
                    if use.reads is at and use.axis_in == lane.axis and lane.repeat:
                        return self.names.of(use)
                elif op(user) in MOVES | NORMS.keys():
                    todo.append((user, carry(user, at, lane)))
        return None

    def _alone(self, node: fx.Node, target: fx.Node | None) -> bool:
        """Say whether every path from the input to the output goes through a node."""
        reached = {n for n in self.nodes if n.name in self.graph.inputs}
        for at in self.nodes:
            if at is not node and any(p in reached for p in at.all_input_nodes):
                reached.add(at)
        return target is not None and target not in reached

    def _module(self, node: fx.Node) -> str | None:
        """Return the module whose whole work an operation is."""
        path = _owner(node)
        modules: Mapping[str, nn.Module] = dict(self.model.named_modules())
        module = modules.get(path)
        if not path or module is None or any(True for _ in _inside(module)):
            return None
        mine = [n for n in self.nodes if _owner(n) == path and op(n) not in SAME]
        return path if mine == [node] else None


def _owner(node: fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0].partition("@")[0] if stack else ""
    return path.removeprefix("model").removeprefix(".")


def _inside(module: nn.Module) -> Iterator[object]:
    yield from module.parameters()
    yield from module.buffers()
    yield from module.children()
