"""One walk of a finite shift through a graph, until nothing of it is left."""

import heapq
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import fx

from plumbob.survey.domain import End, Fate, Op, Shift, plain, shape
from plumbob.survey.graph import Graph
from plumbob.survey.transfer import floats, name, transfer

MOST_CUTS = 1024  # rows of a packed parameter are looked at in at most so many parts


@dataclass(frozen=True, slots=True)
class Carrier:
    """A parameter or buffer that could take over a shift at a node's output.

    It is a vector along `axis`; None: one number for all.
    """

    name: str
    node: fx.Node
    axis: int | None
    kind: str  # batch-norm, bias


@dataclass(frozen=True, slots=True)
class Walk:
    """How one shift fared. `seen`: an output sees it, or may see it."""

    seen: bool
    ends: tuple[str, ...]
    carriers: tuple[Carrier, ...]
    steps: tuple[str, ...]
    shifts: Mapping[fx.Node, Fate]


class Flow:
    """A graph, with what every walk through it needs to know."""

    def __init__(self, graph: Graph) -> None:
        nodes = list(graph.module.graph.nodes)
        self.graph = graph
        self.order = {node: i for i, node in enumerate(nodes)}
        self.arguments = {node: _arguments(node) for node in nodes}
        numbers = {n.name for n in nodes if _number(n)}
        self.read = _ancestors(nodes, graph.outputs | numbers)
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

    def redundant(self, parameter: str) -> Iterator[tuple[int, int, Walk]]:
        """Yield the rows of a vector that are null or a gauge: the whole, or parts."""
        nodes = self.placeholders[parameter]
        sizes = shape(nodes[0])
        if len(sizes) != 1 or not floats(nodes[0]):
            return
        whole = plain(sizes, {0}, depends=False)
        walk = self.unseen(dict.fromkeys(nodes, whole))
        found = {(0, sizes[0]): walk}
        if walk.seen:
            found.clear()
            for lo, hi in pairwise(_cuts(sizes[0], walk.shifts, self.arguments)):
                part = replace(whole, within=((0, lo, hi),))
                found[lo, hi] = self.unseen(dict.fromkeys(nodes, part))
        for (lo, hi), walk in found.items():
            if not walk.seen and (walk.ends or walk.carriers):
                yield lo, hi, walk

    def unseen(self, seeds: Mapping[fx.Node, Shift]) -> Walk:
        """Follow shifts; let others carry them only where they are seen otherwise."""
        alone = self.follow(seeds, absorb=False)
        if not alone.seen:
            return alone
        carried = self.follow(seeds, absorb=True)
        return alone if carried.seen else carried

    def follow(self, seeds: Mapping[fx.Node, Shift], *, absorb: bool) -> Walk:
        """Follow the shifts of some placeholders, which belong to one parameter."""
        shifts: dict[fx.Node, Fate] = dict(seeds)
        names = {self.graph.parameters.get(node.name, node.name) for node in seeds}
        ends: list[str] = []
        carriers: list[Carrier] = []
        steps = Steps(" and ".join(sorted(names)))
        seen = any(node.name in self.graph.outputs for node in seeds)
        todo: list[tuple[int, fx.Node]] = []
        queued: set[fx.Node] = set()

        def queue(node: fx.Node) -> None:
            for user in node.users:
                if user in self.read and user not in queued:
                    queued.add(user)
                    heapq.heappush(todo, (self.order[user], user))

        for node in seeds:
            queue(node)
        while todo and not seen:
            _, node = heapq.heappop(todo)
            carrier = self.running_mean(node, shifts) if absorb else None
            fate: Fate = None if carrier else self.step(node, shifts)
            if absorb and carrier is None and isinstance(fate, Shift):
                carrier = self.carrier(node, fate, shifts, names)
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
                seen = node.name in self.graph.outputs or _hopeless(kept[0])
                seen = seen or node.meta.get("val") is None
        return Walk(seen, tuple(ends), tuple(carriers), steps.lines(), shifts)

    def step(self, node: fx.Node, shifts: Mapping[fx.Node, Fate]) -> Fate:
        """Return the shift of a node's result."""
        if node.target is operator.getitem:
            parts = shifts[node.args[0]]  # pyright: ignore[reportArgumentType]
            index: Any = node.args[1]
            return parts[index] if isinstance(parts, list) else parts
        return transfer(self.op(node, shifts))

    def op(self, node: fx.Node, shifts: Mapping[fx.Node, Fate]) -> Op:
        """Return a node with what its rule needs to know."""
        return Op(node, self.arguments[node], shifts, self.depends, self.sums)

    def running_mean(
        self, node: fx.Node, shifts: Mapping[fx.Node, Fate]
    ) -> Carrier | None:
        """Return the running mean that could carry a shift before a frozen norm."""
        arguments = self.arguments[node]
        mean = arguments.get("running_mean")
        if not isinstance(mean, fx.Node) or arguments.get("training"):
            return None
        if "batch_norm" not in name(node):
            return None
        shift = self.op(node, shifts).only("input")
        if shift is None or shift.depends or not shift.varies <= {1}:
            return None
        buffer = self.graph.buffers.get(mean.name)
        if buffer is None or len(mean.users) != 1:
            return None
        return Carrier(buffer, node, 1, "batch-norm")

    def carrier(
        self,
        node: fx.Node,
        shift: Shift,
        shifts: Mapping[fx.Node, Fate],
        names: set[str],
    ) -> Carrier | None:
        """Return the bias that could carry the shift of a node's output."""
        if shift.depends:
            return None
        bias, axis = self.bias_of(node, shifts)
        if bias is None or not shift.varies <= {axis}:
            return None
        owner = self.graph.parameters.get(bias.name)
        if owner is None or owner in names or len(self.placeholders[owner]) > 1:
            return None
        if len(bias.users) > 1 or len(shape(bias)) != 1:
            return None
        if shape(bias)[0] == shape(node)[axis]:
            return Carrier(owner, node, axis, "bias")
        return None if shift.varies else Carrier(owner, node, None, "bias")

    def bias_of(
        self, node: fx.Node, shifts: Mapping[fx.Node, Fate]
    ) -> tuple[fx.Node | None, int]:
        """Return the bias that is added last in a node, and its axis."""
        arguments, last = self.arguments[node], len(shape(node)) - 1
        kind = name(node)
        if kind in {"linear", "layer_norm"}:
            return arguments["bias"], last
        if kind == "addmm":
            return arguments["self"], last
        if kind in {"conv1d", "conv2d", "conv3d", "convolution"}:
            spatial = len(shape(arguments["weight"])) - 2
            return arguments["bias"], last - spatial
        if kind != "add":
            return None, last
        for other in (arguments["self"], arguments["other"]):
            if isinstance(other, fx.Node) and shifts.get(other) is None:
                if other.op == "placeholder" and len(shape(other)) == 1:
                    return other, last
                while name(other) in {"clone", "alias"} and len(other.users) == 1:
                    other = other.all_input_nodes[0]
                if len(other.users) == 1 and shape(other) == shape(node):
                    return self.bias_of(other, shifts)
        return None, last

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


class Steps:
    """The proof in short sentences; operations that only carry are drawn together."""

    def __init__(self, parameter: str) -> None:
        self.parameter = parameter
        self.said: list[str] = []
        self.carrying: list[str] = []
        self.how = ""

    def carried(self, node: fx.Node, shift: Fate, *, direct: bool) -> None:
        """Note that an operation hands a shift on; `direct`: it read the parameter."""
        verb = name(node)
        if direct and isinstance(shift, Shift):
            self._flush()
            self.said.append(f"{verb} adds {self.parameter} {shift}")
        elif isinstance(shift, Shift) and node.target is not operator.getitem:
            if verb not in self.carrying:
                self.carrying.append(verb)
            self.how = str(shift)

    def ended(self, end: End) -> None:
        """Note that it stops."""
        self._flush()
        self.said.append(end.why)

    def absorbed(self, carrier: Carrier) -> None:
        """Note that another parameter could carry it."""
        self._flush()
        self.said.append(f"{carrier.name} can carry it: it is the same for every input")

    def _flush(self) -> None:
        if self.carrying:
            verb = "carry" if len(self.carrying) > 1 else "carries"
            self.said.append(f"{', '.join(self.carrying)} {verb} it {self.how}")
        self.carrying = []

    def lines(self) -> tuple[str, ...]:
        """Return the sentences."""
        self._flush()
        return tuple(dict.fromkeys(self.said))


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
        and len(fate.varies) == len(fate.axes) > 0
    )


def _cuts(
    size: int, shifts: Mapping[fx.Node, Fate], arguments: Mapping[fx.Node, Any]
) -> list[int]:
    """Return where a packed vector may be cut: thirds, and wherever it is split."""
    cuts = {0, size} | ({size // 3, 2 * size // 3} if size % 3 == 0 else set())
    for node in shifts:
        source = next(iter(node.all_input_nodes), None)
        sizes = shape(source) if source is not None else ()
        if not sizes or sizes[-1] != size:
            continue
        named, kind = arguments[node], name(node)
        if kind == "split_with_sizes":
            cuts |= {sum(named["split_sizes"][:i]) for i in range(size)} & {
                *range(size)
            }
        elif kind == "slice":
            lo, hi, _ = slice(named["start"], named["end"]).indices(size)
            cuts |= {lo, hi}
        elif kind == "view" and 3 in shape(node)[len(sizes) - 1 :]:
            inner = shape(node)[-1]
            cuts |= set(range(0, size, inner)) if size // inner < MOST_CUTS else set()
    return sorted(cuts)
