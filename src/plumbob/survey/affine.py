"""Recognise the affine maps, tables and norms among the nodes of a graph."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import fx

from plumbob.survey.ops import NORMS, argument, op, shape, words
from plumbob.survey.views import View

CONVOLUTIONS = words(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
    "convolution mkldnn_convolution _convolution"
)
PRODUCTS = words("linear addmm mm matmul bmm baddbmm mv addmv einsum")
RECURRENT = words("lstm gru rnn_tanh rnn_relu")
TABLES = words("embedding embedding_bag _embedding_bag")
CELLS = words("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell")


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """One use of a weight.

    `reads` is the node that the map reads along its axis `axis_in`; the units lie on
    `axis_out` of the result (both counted from the end). In a recurrent operation
    `layer` counts the layers, and `hidden` maps read the layer's own state.
    """

    node: fx.Node
    kind: str
    weight: View
    out: int
    fan_in: int
    reads: fx.Node | None
    axis_in: int = -1
    axis_out: int = -1
    bias: View | None = None
    groups: int = 1
    transposed: bool = False
    layer: int | None = None
    hidden: bool = False
    norm: str | None = None


def affine(node: fx.Node, known: Mapping[fx.Node, View]) -> Iterator[Affine]:
    """Yield the affine maps that a node computes.

    `known` maps nodes to the parameters that they are. A weight that is computed
    from parameters (weight norm, a low-rank update) belongs to no parameter and
    yields nothing.
    """
    name = op(node)
    if name in CONVOLUTIONS:
        yield from _convolution(node, name, known)
    elif name in RECURRENT:
        yield from _recurrent(node, name, known)
    elif name in CELLS or name == "mkldnn_rnn_layer":
        yield from _cell(node, name, known)
    elif name in PRODUCTS:
        yield from _product(node, name, known)
    elif name in TABLES:
        yield from _table(node, known)
    elif name in NORMS:
        yield from _norm(node, name, known)


def is_map(node: fx.Node, learned: set[fx.Node]) -> bool:
    """Say whether a node multiplies by something made of parameters only."""
    return op(node) in PRODUCTS | CONVOLUTIONS | RECURRENT | CELLS | TABLES and any(
        parent in learned for parent in node.all_input_nodes
    )


def _view(argument: Any, known: Mapping[fx.Node, View]) -> View | None:
    return known.get(argument) if isinstance(argument, fx.Node) else None


def _convolution(
    node: fx.Node, name: str, known: Mapping[fx.Node, View]
) -> Iterator[Affine]:
    x, w = node.args[0], node.args[1]
    weight = _view(w, known)
    if weight is None or not isinstance(w, fx.Node) or not isinstance(x, fx.Node):
        return
    sizes = shape(w)
    turned = "transpose" in name or (
        name in {"convolution", "_convolution"} and bool(node.args[6])
    )
    groups = argument(
        node, 8 if name in {"convolution", "_convolution"} else 6, "groups", 1
    )
    yield Affine(
        node=node,
        kind="conv-transpose" if turned else "conv",
        weight=weight,
        out=sizes[1] * groups if turned else sizes[0],
        fan_in=sizes[0] // groups * prod(sizes[2:]) if turned else prod(sizes[1:]),
        reads=x,
        axis_in=1 - len(sizes),
        axis_out=1 - len(sizes),
        bias=_view(argument(node, 2, "bias"), known),
        groups=groups,
        transposed=turned,
    )


def _product(
    node: fx.Node, name: str, known: Mapping[fx.Node, View]
) -> Iterator[Affine]:
    if name == "einsum":
        yield from _einsum(node, known)
        return
    first = 1 if name in {"addmm", "baddbmm", "addmv"} else 0
    left, right = node.args[first], node.args[first + 1]
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node):
        return
    bias = _view(node.args[0] if first else argument(node, 2, "bias"), known)
    if right in known and len(_long(right)) <= 2 <= len(shape(right)):
        view, reads, axis = known[right], left, -1
        # The axis of the weight's node that is summed over.
        summed = -1 if name == "linear" else -2
    elif left in known and len(shape(left)) == 2:
        view, reads, axis = known[left], right, -2 if len(shape(right)) > 1 else -1
        summed = -1
    else:
        return
    sizes = shape(right if reads is left else left)
    kept = -2 if summed == -1 else -1
    yield Affine(
        node=node,
        kind="linear",
        weight=view,
        out=sizes[kept],
        fan_in=sizes[summed],
        reads=reads,
        axis_in=axis,
        axis_out=axis,
        bias=bias,
        transposed=view.axes[summed] < view.axes[kept],
    )


def _long(node: fx.Node) -> list[int]:
    return [n for n in shape(node) if n != 1]


def _einsum(node: fx.Node, known: Mapping[fx.Node, View]) -> Iterator[Affine]:
    equation, operands = str(node.args[0]).replace(" ", ""), node.args[1]
    left, arrow, result = equation.partition("->")
    parts = left.split(",")
    if not arrow or not isinstance(operands, (list, tuple)) or len(parts) != 2:
        return
    for i, j in ((0, 1), (1, 0)):
        w, x = operands[i], operands[j]
        if not isinstance(w, fx.Node) or not isinstance(x, fx.Node) or w not in known:
            continue
        summed = [c for c in parts[i] if c in parts[j] and c not in result]
        kept = [c for c in parts[i] if c in result and c not in parts[j]]
        if set(summed + kept) != set(parts[i]) or not summed or not kept:
            return  # one map per head or per expert
        size = dict(zip(parts[i], shape(w), strict=True))
        view = known[w]
        axis = {c: view.axes[k] for k, c in enumerate(parts[i])}
        single = len(summed) == len(kept) == 1
        yield Affine(
            node=node,
            kind="linear",
            weight=view,
            out=prod(size[c] for c in kept),
            fan_in=prod(size[c] for c in summed),
            reads=x,
            # 0 is no axis counted from the end: the units lie on several
            axis_in=parts[j].index(summed[0]) - len(parts[j]) if single else 0,
            axis_out=result.index(kept[0]) - len(result) if single else 0,
            transposed=axis[summed[0]] < axis[kept[0]],
        )
        return


def _recurrent(
    node: fx.Node, name: str, known: Mapping[fx.Node, View]
) -> Iterator[Affine]:
    packed = isinstance(node.args[3], (list, tuple))  # (data, sizes, hidden, weights)
    x, weights = node.args[0], node.args[3 if packed else 2]
    biases, layers, _, _, both = node.args[4 if packed else 3 :][:5]
    if not isinstance(weights, (list, tuple)) or not isinstance(x, fx.Node):
        return
    cells = int(str(layers)) * (2 if both else 1)
    size = len(weights) // cells
    for cell in range(cells):
        own = [_view(w, known) for w in weights[cell * size : (cell + 1) * size]]
        nodes = weights[cell * size : (cell + 1) * size]
        maps = [0, 1] + ([size - 1] if size % 2 else [])  # the last: a projection
        for i in maps:
            view, w = own[i], nodes[i]
            if view is None or not isinstance(w, fx.Node):
                continue
            yield Affine(
                node=node,
                kind="recurrent",
                weight=view,
                out=shape(w)[0],
                fan_in=shape(w)[1],
                reads=x,
                bias=own[i + 2] if biases and i < 2 else None,
                layer=cell // (2 if both else 1),
                hidden=i > 0,
            )


def _cell(node: fx.Node, name: str, known: Mapping[fx.Node, View]) -> Iterator[Affine]:
    start = 1 if name == "mkldnn_rnn_layer" else 2
    for i in (0, 1):
        w = node.args[start + i]
        bias = node.args[start + 2 + i] if len(node.args) > start + 2 + i else None
        view = _view(w, known)
        if view is None or not isinstance(w, fx.Node):
            continue
        yield Affine(
            node=node,
            kind="recurrent",
            weight=view,
            out=shape(w)[0],
            fan_in=shape(w)[1],
            reads=node.args[0] if isinstance(node.args[0], fx.Node) else None,
            bias=_view(bias, known),
            layer=0,
            hidden=i > 0,
        )


def _table(node: fx.Node, known: Mapping[fx.Node, View]) -> Iterator[Affine]:
    w, index = node.args[0], node.args[1]
    view = _view(w, known)
    if view is None or not isinstance(w, fx.Node):
        return
    yield Affine(
        node=node,
        kind="embedding",
        weight=view,
        out=shape(w)[1],
        fan_in=shape(w)[0],
        reads=index if isinstance(index, fx.Node) else None,
        axis_in=0,
        transposed=True,
    )


def _norm(node: fx.Node, name: str, known: Mapping[fx.Node, View]) -> Iterator[Affine]:
    per_vector = name in {"layer_norm", "native_layer_norm", "rms_norm"}
    place = 2 if per_vector or name == "_fused_rms_norm" else 1
    if name == "group_norm":
        place = 2
    w, x = argument(node, place, "weight"), node.args[0]
    view = _view(w, known)
    if view is None or not isinstance(x, fx.Node):
        return
    bias = None if "rms" in name else _view(argument(node, place + 1, "bias"), known)
    across = -1 if place == 2 and name != "group_norm" else 1 - len(shape(node))
    yield Affine(
        node=node,
        kind="norm",
        weight=view,
        out=prod(shape(w)),
        fan_in=1,
        reads=x,
        axis_in=across,
        axis_out=across if len(shape(w)) == 1 else 0,
        bias=bias,
        norm=NORMS[name],
    )
