"""Which part of which parameter a node of the graph is."""

from dataclasses import dataclass, replace

from torch import fx

from plumbob.survey.graph import Graph
from plumbob.survey.ops import SAME, argument, op, shape


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A parameter, or a range of it, with its axes permuted.

    Axis i of the node is axis `axes[i]` of the parameter (-1: an axis of size 1 that
    the parameter has not). `cut` is the axis and range of the parameter that is used.
    """

    name: str
    axes: tuple[int, ...]
    cut: tuple[int, int, int] | None = None

    def narrowed(self, axis: int, low: int, high: int) -> "View":
        """Return the range low..high of an axis of this view."""
        mine = self.axes[axis]
        start = self.cut[1] if self.cut and self.cut[0] == mine else 0
        return replace(self, cut=(mine, start + low, start + high))


def views(graph: Graph) -> dict[fx.Node, View]:
    """Map the nodes that are parameters, or parts of one, to that part."""
    found: dict[fx.Node, View] = {}
    for node in graph.module.graph.nodes:
        if node.name in graph.parameters:
            axes = tuple(range(len(shape(node))))
            found[node] = View(name=graph.parameters[node.name], axes=axes)
        elif node.op == "call_function" and node.args:
            view = _derived(node, found)
            if view is not None:
                found[node] = view
    return found


def _derived(node: fx.Node, known: dict[fx.Node, View]) -> View | None:
    source, name = node.args[0], op(node)
    if not isinstance(source, fx.Node):
        return None
    if name == "getitem":
        return _part(node, source, known)
    if source not in known:
        return None
    view, old, new = known[source], shape(source), shape(node)
    if name in SAME or (name == "expand" and old == new):
        return view
    if name == "t":
        return replace(view, axes=view.axes[::-1])
    if name == "transpose":
        axes = list(view.axes)
        i, j = int(str(node.args[1])), int(str(node.args[2]))
        axes[i], axes[j] = axes[j], axes[i]
        return replace(view, axes=tuple(axes))
    if name == "permute":
        order: list[int] = argument(node, 1, "dims")
        return replace(view, axes=tuple(view.axes[i] for i in order))
    if name == "slice" and argument(node, 4, "step", 1) == 1:
        axis = argument(node, 1, "dim", 0)
        low = argument(node, 2, "start", 0) or 0
        low = low + old[axis] if low < 0 else low
        if new[axis] == old[axis]:
            return view
        return view.narrowed(axis, low, low + new[axis])
    ones = {"view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "flatten"}
    if name in ones and _long(old) == _long(new):
        mine = iter([a for a, n in zip(view.axes, old, strict=True) if n != 1])
        return replace(view, axes=tuple(next(mine) if n != 1 else -1 for n in new))
    return None


def _part(node: fx.Node, source: fx.Node, known: dict[fx.Node, View]) -> View | None:
    """Return the view that one output of a split is."""
    split = op(source) in {"split", "split_with_sizes", "chunk", "tensor_split"}
    origin = source.args[0] if split else None
    if not isinstance(origin, fx.Node) or origin not in known:
        return None
    axis = argument(source, 2, "dim", 0)
    index = int(str(node.args[1]))
    sizes = [part.shape[axis] for part in source.meta["val"]]
    low = sum(sizes[:index])
    return known[origin].narrowed(axis, low, low + sizes[index])


def _long(sizes: tuple[int, ...]) -> list[int]:
    return [n for n in sizes if n != 1]
