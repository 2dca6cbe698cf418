"""What comes directly after a map: its norm, its activation, a residual sum."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg
from torch.nn import functional

from plumbob.survey.affine import CONVOLUTIONS, Affine
from plumbob.survey.affine import PRODUCTS as MATRICES
from plumbob.survey.graph import Graph
from plumbob.survey.norms import Norms
from plumbob.survey.ops import (
    ACTIVATIONS,
    DROPOUT,
    MAX_POOLS,
    NORMS,
    NOTHING_READ,
    POINTWISE,
    PRODUCTS,
    SAME,
    SHAPE,
    op,
    shape,
    value,
)
from plumbob.survey.views import View

PASSES = SAME | SHAPE | DROPOUT | {"getitem", "constant_pad_nd", "pad"}
MAPS = CONVOLUTIONS | MATRICES
MAKES_WEIGHT = SAME | SHAPE | PRODUCTS | MATRICES | {"add", "sub"}
# Activations that are sometimes written out, by their values. Approximations of
# gelu count as gelu.
WRITTEN_OUT: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("silu", functional.silu),
    ("gelu", functional.gelu),
    ("gelu", lambda x: functional.gelu(x, approximate="tanh")),
    ("gelu", lambda x: x * torch.sigmoid(1.702 * x)),
    ("mish", functional.mish),
    ("relu", functional.relu),
    ("relu6", functional.relu6),
    ("hardtanh", functional.hardtanh),
    ("leaky_relu", functional.leaky_relu),
    ("hardswish", functional.hardswish),
    ("softplus", functional.softplus),
    ("elu", functional.elu),
    ("tanh", torch.tanh),
    ("softsign", functional.softsign),
    ("sigmoid", torch.sigmoid),
)


@dataclass(frozen=True, slots=True)
class After:
    """What follows a map; None where its result goes several ways.

    `ends` are the operations that make up the activation.
    """

    activation: str | None = None
    norm: str | None = None
    bias: View | None = field(default=None, compare=False)
    ends: frozenset[fx.Node] = field(default=frozenset(), compare=False)


def after(use: Affine, known: Mapping[fx.Node, View], n: Norms) -> After:
    """Follow the only reader of a map as long as it leaves units as they are.

    Where a parameter is added that is not the map's only bias, the activation is of
    another number than z and is left out.
    """
    norm: str | None = None
    bias = use.bias
    moved = False
    at = use.node
    while True:
        readers = _readers(at, n)
        name = op(readers[0]) if len(readers) == 1 else ""
        if not name:
            break
        step = readers[0]
        if name in NORMS or step in n.scaled:
            if norm is not None:
                return After(None, norm, bias)
            norm = NORMS.get(name) or n.scaled[step][1]
        elif name in ACTIVATIONS:
            break
        elif name == "add" and set(step.all_input_nodes) & known.keys():
            added = _bias(step, use.out, known)
            moved |= norm is None and (bias is not None or added is None)
            if norm is None and bias is None:
                bias = added
        elif (
            name not in PASSES | MAX_POOLS
            and step not in n.gains
            and not _drops(step, at)
        ):
            break
        at = step
    if moved:
        return After(None, norm, bias)
    if name in ACTIVATIONS:
        return After(ACTIVATIONS[name], norm, bias, frozenset(readers))
    name, ends = _written_out(at)
    return After(name, norm, bias, ends)


def _readers(node: fx.Node, n: Norms) -> list[fx.Node]:
    """Return what reads a node's first result, but for the statistics of a norm."""
    # masks, indices and running statistics
    aside = op(node) in NORMS.keys() | DROPOUT | MAX_POOLS
    return [
        u
        for u in node.users
        if u not in n.statistics
        and op(u) not in NOTHING_READ
        and not (aside and op(u) == "getitem" and u.args[1])
    ]


def _drops(step: fx.Node, at: fx.Node) -> bool:
    """Say whether a product with a random mask follows: a dropout written out."""
    if op(step) not in PRODUCTS:
        return False
    todo = [o for o in step.all_input_nodes if o is not at]
    masks = bool(todo)
    while todo:
        mask = todo.pop()
        if op(mask) not in PRODUCTS | SAME | {"bernoulli"}:
            return False
        if op(mask) != "bernoulli":
            todo += mask.all_input_nodes
    return masks


def _bias(step: fx.Node, units: int, known: Mapping[fx.Node, View]) -> View | None:
    """Return the parameter that is added if it has one number per unit."""
    other = next(o for o in step.all_input_nodes if o in known)
    return known[other] if [n for n in shape(other) if n != 1] == [units] else None


def _written_out(x: fx.Node) -> tuple[str | None, frozenset[fx.Node]]:
    """Return the activation that pointwise operations on x amount to, and these."""
    inside = [x]
    at = x.next
    while at.op == "call_function" and len(inside) < 16:
        ins = at.all_input_nodes
        if op(at) in POINTWISE - DROPOUT and ins and set(ins) <= set(inside):
            inside.append(at)
            own = set(inside)
            closed = all(set(n.users) <= own for n in inside[:-1])
            if closed and (name := _named(inside)):
                return name, frozenset(inside[1:])
        at = at.next
    return None, frozenset()


def _named(steps: list[fx.Node]) -> str | None:
    grid = torch.linspace(-8, 8, 81, dtype=torch.float64)
    values: dict[fx.Node, Tensor] = {steps[0]: grid}
    for node in steps[1:]:
        if not callable(node.target):
            return None
        if op(node) in SAME | {"zeros_like"}:  # a change of dtype, layout or device
            like, dtype = values[node.all_input_nodes[0]], value(node).dtype
            like = like.to(grid.dtype if dtype.is_floating_point else dtype)
            values[node] = like if op(node) in SAME else torch.zeros_like(like)
            continue
        args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
        values[node] = node.target(*args, **kwargs)
    result = values[steps[-1]]
    if result.dtype != grid.dtype:  # a comparison
        return None
    for name, function in WRITTEN_OUT:
        if torch.allclose(result, function(grid), atol=1e-6):
            return name
    return None


def ends_residual(node: fx.Node, origins: "Origins", n: Norms) -> bool:
    """Say whether a map's result is added to something that skips the map.

    The other summand is computed on the way to this map, or by a shortcut of one map
    that starts there.
    """
    at = node
    while True:
        readers = _readers(at, n)
        if len(readers) != 1:
            return False
        step = readers[0]
        others = [o for o in step.all_input_nodes if o is not at]
        if op(step) == "add" and others:
            if _skips(others[0], node, origins):
                return True
            if origins.precedes(node, others[0]):
                return False
        elif op(step) not in PASSES | PRODUCTS | NORMS.keys():
            return False
        at = step


def _skips(other: fx.Node, node: fx.Node, origins: "Origins") -> bool:
    maps = 0
    while other in origins.live:
        if origins.precedes(other, node):
            return maps == 0 or other not in node.all_input_nodes
        maps += op(other) in MAPS
        live = [o for o in other.all_input_nodes if o in origins.live]
        if maps > 1 or len(live) != 1:
            return False
        if op(other) not in PASSES | NORMS.keys() | MAPS:
            return False
        other = live[0]
    return False


def makes_weight(
    node: fx.Node, origins: "Origins", known: Mapping[fx.Node, View]
) -> bool:
    """Say whether a product of two parameters (LoRA's) is read only as a weight."""
    if op(node) not in MATRICES or not known.keys() >= set(node.all_input_nodes):
        return False
    todo = [node]
    while todo:
        at = todo.pop()
        for user in at.users:
            if user in origins.learned and op(user) in MAKES_WEIGHT:
                todo.append(user)
            elif not _as_weight(at, user):
                return False
    return bool(node.users)


def _as_weight(at: fx.Node, reader: fx.Node) -> bool:
    """Say whether a node is what the reader multiplies its input by, from the right.

    To the left, or one matrix per sample, it may as well be learned queries.
    """
    name = op(reader)
    if name not in MAPS - {"bmm", "baddbmm", "einsum"}:
        return False
    place = 2 if name in {"addmm", "addmv"} else 1
    return [i for i, a in enumerate(reader.args) if a is at] == [place]


class Origins:
    """Which nodes come from which: `live` ones depend on the model's input."""

    def __init__(self, graph: Graph):
        self._place: dict[fx.Node, int] = {}
        self._before: dict[fx.Node, int] = {}  # ancestors, as bits
        self.live: set[fx.Node] = set()
        self.learned: set[fx.Node] = set()  # made of parameters only
        for i, node in enumerate(graph.module.graph.nodes):
            inputs = node.all_input_nodes
            self._place[node] = i
            self._before[node] = 1 << i
            for parent in inputs:
                self._before[node] |= self._before[parent]
            if node.name in graph.inputs or any(p in self.live for p in inputs):
                self.live.add(node)
            elif node.name in graph.parameters or any(
                p in self.learned for p in inputs
            ):
                self.learned.add(node)

    def precedes(self, early: fx.Node, late: fx.Node) -> bool:
        """Say whether `late` is computed from `early`."""
        return bool(self._before[late] >> self._place[early] & 1)
