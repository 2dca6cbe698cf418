"""Which values have the mean 0 for every input, once the parameters that write them do.

W x + b, summed over its outputs, is 0 for every x where the columns of W and b sum to
0; so is a row of a table, and so are sums and rearrangements of such values.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import fx

from plumbob.survey.carry import rows
from plumbob.survey.domain import dims, name, shape
from plumbob.survey.flow import Flow
from plumbob.survey.transfer import floats

Written = frozenset[tuple[str, int]]
Means = Mapping[int, Written]
_NOTHING: Means = {}


def writers(flow: Flow) -> dict[fx.Node, Means]:
    """Return what must be centred so that a node's mean along an axis is 0.

    Axes are counted from the last one, -1. One that is not there has another mean for
    some inputs. What must be centred are pairs of a parameter and its axis, from 0.
    """
    found: dict[fx.Node, Means] = {}
    for node in flow.order:
        owner = flow.graph.parameters.get(node.name)
        if node.op == "placeholder" and owner is not None:
            count = len(shape(node))
            found[node] = {i - count: frozenset({(owner, i)}) for i in range(count)}
        rule = RULES.get(name(node))
        if rule is not None:
            found[node] = rule(_Node(node, flow.arguments[node], found))
    return found


@dataclass(frozen=True, slots=True)
class _Node:
    node: fx.Node
    arguments: Mapping[str, Any]
    found: Mapping[fx.Node, Means]

    def means(self, argument: Any) -> Means:
        """Return what is known of an argument, by name or as a node."""
        value = self.arguments[argument] if isinstance(argument, str) else argument
        known = self.found.get(value, _NOTHING) if isinstance(value, fx.Node) else {}
        return {axis: w for axis, w in known.items() if shape(value)[axis] > 1}

    @property
    def source(self) -> Any:
        """The first argument."""
        return self.node.args[0]


def _same(op: _Node) -> Means:
    return op.means(op.source) if floats(op.node) else _NOTHING


def _dropout(op: _Node) -> Means:
    arguments = op.arguments
    still = arguments["train"] is False or arguments["p"] == 0
    return op.means(op.source) if still else _NOTHING


def _add(op: _Node) -> Means:
    one, two = op.means("self"), op.means("other")
    return {axis: one[axis] | two[axis] for axis in one.keys() & two.keys()}


def _scaled(op: _Node) -> Means:
    """Values times a number, or times what is the same along the axis."""
    pairs = [("self", "other"), ("other", "self")][: 1 if name(op.node) == "div" else 2]
    if op.arguments.get("rounding_mode") is not None:
        return _NOTHING
    return {
        axis: written
        for mine, by in pairs
        for axis, written in op.means(mine).items()
        if _alike(op.arguments[by], axis)
    }


def _alike(value: Any, axis: int) -> bool:
    sizes = shape(value) if isinstance(value, fx.Node) else ()
    return len(sizes) < -axis or sizes[axis] == 1


def _map(weight: str, axis: int, bias: str = "") -> Callable[[_Node], Means]:
    """Make the rule of a map whose units are the last axis and one of its weight."""

    def rule(op: _Node) -> Means:
        return _affine(op, weight, axis, bias, -1)

    return rule


def _affine(op: _Node, weight: str, axis: int, bias: str, units: int) -> Means:
    own = op.means(weight).get(axis)
    added: Written | None = frozenset()
    if op.arguments.get(bias) is not None:
        added = op.means(bias).get(-1)
    vector = len(shape(op.arguments[weight])) < 2
    if vector or own is None or added is None:
        return _NOTHING
    return {units: own | added}


def _conv(op: _Node) -> Means:
    count = len(shape(op.arguments["weight"]))
    turned = op.arguments.get("transposed") or "transpose" in name(op.node)
    if op.arguments["groups"] != 1:  # each group reads inputs of its own
        return _NOTHING
    return _affine(op, "weight", (1 if turned else 0) - count, "bias", 1 - count)


def _rows(op: _Node) -> Means:
    if rows(op.node) is None:
        return _NOTHING
    first = -len(shape(op.source))
    return {a: w for a, w in op.means(op.source).items() if a != first}


def _view(op: _Node) -> Means:
    """An axis stays what it is where as many values as before come after a step."""
    old, new = shape(op.source), shape(op.node)
    if 0 in old or 0 in new or "dtype" in op.arguments:
        return _NOTHING
    places = {(size, prod(new[i + 1 :])): i - len(new) for i, size in enumerate(new)}
    found: dict[int, Written] = {}
    for axis, written in op.means(op.source).items():
        place = (old[axis], prod(old[len(old) + axis + 1 :]))
        if place in places:
            found[places[place]] = written
    return found


def _permute(op: _Node) -> Means:
    count, arguments = len(shape(op.node)), op.arguments
    order = list(range(count))
    if "dims" in arguments:
        order = dims(arguments["dims"], count)
    elif count > 1:  # transpose, t
        i, j = (arguments.get(f"dim{k}", k) % count for k in (0, 1))
        order[i], order[j] = j, i
    known = op.means(op.source)
    return {
        i - count: known[axis - count]
        for i, axis in enumerate(order)
        if axis - count in known
    }


def _slice(op: _Node) -> Means:
    old, new = shape(op.source), shape(op.node)
    return {a: w for a, w in op.means(op.source).items() if old[a] == new[a]}


def _select(op: _Node) -> Means:
    count = len(shape(op.source))
    gone = op.arguments["dim"] % count - count
    known = op.means(op.source).items()
    return {a + (a < gone): w for a, w in known if a != gone}


def _cat(op: _Node) -> Means:
    count = len(shape(op.node))
    along = op.arguments["dim"] % count - count
    parts = [op.means(part) for part in op.arguments["tensors"]]
    axes = set(parts[0]).intersection(*parts) - {along}
    return {a: frozenset[tuple[str, int]]().union(*(p[a] for p in parts)) for a in axes}


RULES: dict[str, Callable[[_Node], Means]] = {
    **dict.fromkeys(("clone", "contiguous", "to", "_to_copy", "alias"), _same),
    **dict.fromkeys(("detach", "neg", "lift_fresh_copy", "expand"), _same),
    "dropout": _dropout,
    **dict.fromkeys(("add", "sub", "rsub"), _add),
    **dict.fromkeys(("mul", "div"), _scaled),
    "linear": _map("weight", -2, "bias"),
    "addmm": _map("mat2", -1, "self"),
    "mm": _map("mat2", -1),
    "matmul": _map("other", -1),
    **dict.fromkeys(("embedding", "index"), _rows),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _conv),
    **{f"conv_transpose{n}d": _conv for n in (1, 2, 3)},
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "flatten"), _view),
    **dict.fromkeys(("unflatten", "unsqueeze", "squeeze"), _view),
    **dict.fromkeys(("permute", "transpose", "t"), _permute),
    "slice": _slice,
    "select": _select,
    "cat": _cat,
}
