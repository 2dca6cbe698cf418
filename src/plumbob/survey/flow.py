"""One walk of a finite shift through a graph, until nothing of it is left."""

import heapq
import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from plumbob.survey.carriers import Carrier, Carriers
from plumbob.survey.domain import End, Fate, Op, Shift, name, shape
from plumbob.survey.graph import Graph
from plumbob.survey.telling import Steps
from plumbob.survey.transfer import transfer


@dataclass(frozen=True, slots=True)
class Walk:
    """How one shift fared. `seen`: an output sees it, or may see it.

    `source` is the first operation that meets it; `through` are the kinds of what it
    passed, in order, each once: map, attention, add.
    """

    seen: bool
    ends: tuple[str, ...]
    carriers: tuple[Carrier, ...]
    steps: tuple[str, ...]
    shifts: Mapping[fx.Node, Fate]
    source: str = ""
    through: tuple[str, ...] = ()


class Flow:
    """A graph, with what every walk through it needs to know."""

    def __init__(self, graph: Graph) -> None:
        nodes = list(graph.module.graph.nodes)
        self.graph = graph
        self.order = {node: i for i, node in enumerate(nodes)}
        self.arguments = {node: _arguments(node) for node in nodes}
        numbers = {n.name for n in nodes if _number(n)}
        self.ends = graph.outputs | graph.states
        self.read = _ancestors(nodes, self.ends | numbers)
        self.placeholders: dict[str, list[fx.Node]] = {}
        depends: set[fx.Node] = set()
        self.sums: dict[fx.Node, int] = {}
        for node in nodes:
            if node.op == "placeholder":
                if node.name in graph.parameters:
                    owner = graph.parameters[node.name]
                    self.placeholders.setdefault(owner, []).append(node)
                if node.name in graph.inputs:
                    depends.add(node)
            elif _random(node) or depends & set(node.all_input_nodes):
                depends.add(node)
            if (axis := self.sums_to_one(node)) is not None:
                self.sums[node] = axis
        self.depends = frozenset(depends)
        self.carriers = Carriers(graph, self.arguments, self.placeholders)

    def unseen(
        self, seeds: Mapping[fx.Node, Shift], avoid: Collection[str] = ()
    ) -> Walk:
        """Follow shifts; let others carry them only where they are seen otherwise.

        Those to `avoid` carry nothing.
        """
        alone = self.follow(seeds, absorb=False)
        if not alone.seen:
            return alone
        carried = self.follow(seeds, absorb=True, avoid=avoid)
        return alone if carried.seen else carried

    def follow(
        self,
        seeds: Mapping[fx.Node, Shift],
        *,
        absorb: bool,
        avoid: Collection[str] = (),
    ) -> Walk:
        """Follow the shifts of some placeholders, which belong to one parameter."""
        shifts: dict[fx.Node, Fate] = dict(seeds)
        names = {self.graph.parameters.get(node.name, node.name) for node in seeds}
        ends: list[str] = []
        carriers: list[Carrier] = []
        through: dict[str, None] = {}
        steps = Steps(" and ".join(sorted(names)))
        names |= set(avoid)
        seen = any(node.name in self.ends for node in seeds)
        todo: list[tuple[int, fx.Node]] = []
        queued: set[fx.Node] = set()

        def queue(node: fx.Node) -> None:
            for user in node.users:
                if user in self.read and user not in queued:
                    queued.add(user)
                    heapq.heappush(todo, (self.order[user], user))

        for node in seeds:
            queue(node)
        source = name(todo[0][1]) if todo else ""
        while todo and not seen:
            _, node = heapq.heappop(todo)
            op = self.op(node, shifts)
            carrier = self.carriers.before(op, names) if absorb else None
            fate: Fate = None if carrier else self.step(op)
            if passed := self.passed(op):
                through[passed] = None
            if absorb and carrier is None and isinstance(fate, Shift):
                carrier = self.carriers.after(op, fate, names, self.read)
            if carrier is not None:
                carriers.append(carrier)
                steps.absorbed(carrier)
                continue
            kept: list[Fate] = []
            for part in fate if isinstance(fate, list) else [fate]:
                if isinstance(part, End) and part.by != "slice":
                    ends.append(part.by)
                    steps.ended(part)
                kept.append(None if isinstance(part, End) else part)
            shifts[node] = kept if isinstance(fate, list) else kept[0]
            if any(part is not None for part in kept):
                steps.carried(node, kept[0], direct=bool(seeds.keys() & node.args))
                queue(node)
                # One that varies along all axes with the input hardly ever ends:
                # to call it seen at once costs no soundness and saves the walk.
                seen = node.name in self.ends or _hopeless(kept[0])
                seen = seen or node.meta.get("val") is None
        seen = seen or not self.carriers.consistent(carriers, self.read)
        told = () if seen else steps.lines()
        met = tuple(ends), tuple(carriers)
        return Walk(seen, *met, told, shifts, source, tuple(through))

    def step(self, op: Op) -> Fate:
        """Return the shift of a node's result."""
        if op.node.target is operator.getitem:
            parts = op.shifts[op.node.args[0]]  # pyright: ignore[reportArgumentType]
            index: Any = op.node.args[1]
            return parts[index] if isinstance(parts, list) else parts
        return transfer(op)

    def passed(self, op: Op) -> str:
        """Return the kind of a node, as far as it tells how a shift fares."""
        kind, node = name(op.node), op.node
        if kind == "add":
            others = set(node.all_input_nodes) - op.moved()
            return "add" if any(n.op != "placeholder" for n in others) else ""
        if kind == "scaled_dot_product_attention":
            return "attention" if op.shift("value") else ""
        if kind in {"matmul", "bmm"}:
            x, y = node.args[:2]
            return "attention" if x in self.sums and op.shifts.get(y) else "map"  # pyright: ignore[reportArgumentType]
        if kind in {"linear", "addmm", "mm"} or kind.startswith("conv"):
            source = op.arguments.get("bias", op.arguments.get("self"))
            return "" if kind != "mm" and op.shifts.get(source) else "map"
        return ""

    def op(self, node: fx.Node, shifts: Mapping[fx.Node, Fate]) -> Op:
        """Return a node with what its rule needs to know."""
        return Op(node, self.arguments[node], shifts, self.depends, self.sums)

    def sums_to_one(self, node: fx.Node) -> int | None:
        """Return the axis along which a node's values sum to one, if there is one."""
        arguments, kind = self.arguments[node], name(node)
        source = arguments.get("self", arguments.get("input"))
        if kind in {"softmax", "_softmax"}:
            return arguments["dim"] % len(shape(node))
        if source not in self.sums:
            return None
        last = self.sums[source] == len(shape(source)) - 1
        if kind in {"clone", "_to_copy", "to", "alias", "detach", "expand"}:
            return self.sums[source] + len(shape(node)) - len(shape(source))
        if kind == "dropout" and (arguments["train"] is False or arguments["p"] == 0):
            return self.sums[source]
        if kind in {"view", "_unsafe_view", "reshape"} and last:
            same = shape(node)[-1] == shape(source)[-1]
            return len(shape(node)) - 1 if same else None
        return None


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Name a node's arguments and fill in the defaults."""
    named: dict[str, Any] = {}
    schema = getattr(node.target, "_schema", None)
    for i, slot in enumerate(schema.arguments if schema else ()):
        if i < len(node.args):
            named[slot.name] = node.args[i]
        elif slot.name in node.kwargs:
            named[slot.name] = node.kwargs[slot.name]
        elif slot.has_default_value():
            named[slot.name] = slot.default_value
    return named


def _ancestors(nodes: list[fx.Node], outputs: frozenset[str]) -> set[fx.Node]:
    read: set[fx.Node] = set()
    for node in reversed(nodes):
        if node.name in outputs or read & node.users.keys():
            read.add(node)
    return read


def _random(node: fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _number(node: fx.Node) -> bool:
    """Return whether a number is handed to Python, out of the graph's sight.

    A truth value only chooses the path, which a recorded graph owns up to.
    """
    if name(node) != "_local_scalar_dense":
        return False
    value = node.all_input_nodes[0].meta.get("val")
    return not (isinstance(value, torch.Tensor) and value.dtype is torch.bool)


def _hopeless(fate: Fate) -> bool:
    return (
        isinstance(fate, Shift)
        and fate.depends
        and not fate.within
        and all(varies for factors in fate.axes for _, varies in factors)
        and len(fate.axes) > 0
    )
