"""The parameters that could take a shift over where it is the same for every input."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from plumbob.survey.domain import Fate, Op, Shift, name, shape
from plumbob.survey.graph import Graph

RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_CELLS = {"lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}


@dataclass(frozen=True, slots=True)
class Carrier:
    """A parameter or buffer that could take over a shift at a node's output.

    It is a vector along `axis`; None: one number for all. Kind rnn: it enters where
    the shifted parameter does, and is moved against it. `rows` are those that move,
    where they are not all; `amount` names by how much.
    """

    name: str
    node: fx.Node
    axis: int | None
    kind: str  # batch-norm, bias, rnn
    amount: Any = None
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class _Bias:
    node: fx.Node
    axis: int
    rows: tuple[int, int] | None = None


class Carriers:
    """Finds carriers in one graph."""

    def __init__(
        self,
        graph: Graph,
        arguments: Mapping[fx.Node, Mapping[str, Any]],
        placeholders: Mapping[str, Collection[fx.Node]],
    ) -> None:
        self.graph, self.arguments = graph, arguments
        self.placeholders = placeholders

    def before(self, op: Op, names: set[str]) -> Carrier | None:
        """Return what takes a shift over before an operation sees it."""
        kind = name(op.node)
        if "batch_norm" in kind or kind == "instance_norm":
            return self._running_mean(op)
        if kind in RECURRENT or kind in _CELLS:
            return self._twin(op, kind, names)
        return None

    def after(
        self, op: Op, shift: Shift, names: set[str], read: Collection[fx.Node]
    ) -> Carrier | None:
        """Return the bias that could carry the shift of a node's output."""
        if shift.depends:
            return None
        node = op.node
        bias = self._bias_of(node, op.shifts)
        if bias is None or not shift.varies <= {bias.axis}:
            return None
        owner = self._free(bias.node, names)
        if owner is None:
            return None
        used = sum(user in read for n in self.placeholders[owner] for user in n.users)
        if used > 1 and shift.amount is None:
            return None
        size = shape(bias.node)[0] if bias.rows is None else bias.rows[1] - bias.rows[0]
        alike = size == shape(node)[bias.axis]
        if not alike and shift.varies:
            return None
        axis = bias.axis if alike else None
        return Carrier(owner, node, axis, "bias", shift.amount, bias.rows)

    def consistent(
        self, carriers: Collection[Carrier], read: Collection[fx.Node]
    ) -> bool:
        """Return whether a parameter with several uses is moved alike at each."""
        by_name: dict[str, list[Carrier]] = {}
        for carrier in carriers:
            if carrier.name in self.placeholders:
                by_name.setdefault(carrier.name, []).append(carrier)
        for owner, mine in by_name.items():
            users = {u for n in self.placeholders[owner] for u in n.users if u in read}
            first = mine[0]
            if len(users) == len(mine) == 1:
                continue
            known = len(users) == len(mine) and first.amount is not None
            if not known or any(
                c.amount != first.amount or c.rows != first.rows for c in mine
            ):
                return False
        return True

    def _free(self, node: fx.Node, names: set[str]) -> str | None:
        """Return the name of a vector that is not itself shifted."""
        owner = self.graph.parameters.get(node.name)
        if owner is None or owner in names or len(shape(node)) != 1:
            return None
        outputs = self.graph.outputs
        return (
            None if any(n.name in outputs for n in self.placeholders[owner]) else owner
        )

    def _running_mean(self, op: Op) -> Carrier | None:
        """Return the running mean that could carry a shift before a frozen norm."""
        mean = op.arguments.get("running_mean")
        own = op.arguments.get("training") or op.arguments.get("use_input_stats")
        if not isinstance(mean, fx.Node) or own:
            return None
        shift = op.only("input")
        if shift is None or shift.depends or not shift.varies <= {1}:
            return None
        buffer = self.graph.buffers.get(mean.name)
        if buffer is None or len(mean.users) != 1:
            return None
        return Carrier(buffer, op.node, 1, "batch-norm")

    def _twin(self, op: Op, kind: str, names: set[str]) -> Carrier | None:
        """Return the other one of the two biases that a recurrent layer adds up."""
        moved = op.moved()
        if len(moved) != 1 or len(op.node.all_input_nodes) < 2:
            return None
        (mine,) = moved
        shift = op.shifts[mine]
        if not isinstance(shift, Shift) or mine.op != "placeholder":
            return None
        if kind in _CELLS:
            pair = [op.arguments.get("b_ih"), op.arguments.get("b_hh")]
        else:
            pair = _pair(op.arguments, mine)
        if pair.count(mine) != 1:
            return None
        twin = pair[1 - pair.index(mine)]
        size = shape(mine)[0]
        lo, hi = next(((lo, hi) for _, lo, hi in shift.within), (0, size))
        if kind.startswith("gru") and hi > 2 * size // 3:  # the n gate has two sums
            return None
        owner = self._free(twin, names) if isinstance(twin, fx.Node) else None
        rows = None if (lo, hi) == (0, size) else (lo, hi)
        if owner is None:
            return None
        return Carrier(owner, op.node, None, "rnn", shift.amount, rows)

    def _bias_of(self, node: fx.Node, shifts: Mapping[fx.Node, Fate]) -> _Bias | None:
        """Return the bias that is added last in a node."""
        arguments, last = self.arguments[node], len(shape(node)) - 1
        kind = name(node)
        if kind in {"linear", "layer_norm"}:
            return _bias(arguments["bias"], last)
        if kind == "addmm":
            return _bias(arguments["self"], last)
        if kind in {"conv1d", "conv2d", "conv3d", "convolution"}:
            spatial = len(shape(arguments["weight"])) - 2
            return _bias(arguments["bias"], last - spatial)
        if kind != "add":
            return None
        for other in (arguments["self"], arguments["other"]):
            if isinstance(other, fx.Node) and shifts.get(other) is None:
                if other.op == "placeholder" and len(shape(other)) == 1:
                    return _bias(other, last)
                found = self._alone(other, shifts)
                if found is not None and shape(other) == shape(node):
                    return found
        return None

    def _alone(self, node: fx.Node, shifts: Mapping[fx.Node, Fate]) -> _Bias | None:
        """Return the bias of a branch that is read here only, or of a part of it."""
        count, last_only = len(shape(node)), False
        while len(node.users) == 1 and (kept := self._kept(node)):
            node = node.all_input_nodes[0]
            last_only = last_only or kept == "last"
        if len(node.users) != 1:
            return None
        if (part := self._part(node)) is None:
            found = self._bias_of(node, shifts)
        else:
            source, lo, hi = part
            found = self._bias_of(source, shifts)
            if found is None or found.rows or found.axis != len(shape(source)) - 1:
                return None
            found = replace(found, rows=(lo, hi))
        if found is None or not last_only:
            return found
        return (
            replace(found, axis=count - 1)
            if found.axis == len(shape(node)) - 1
            else None
        )

    def _kept(self, node: fx.Node) -> str:
        """Return which axes of a node's source are as they were: all, the last, ""."""
        kind, arguments = name(node), self.arguments[node]
        if kind == "dropout":
            same = arguments["train"] is False or arguments["p"] == 0
            return "all" if same else ""
        if kind in {"clone", "alias"}:
            return "all"
        if kind in {"view", "_unsafe_view", "reshape"}:
            sizes, old = shape(node), shape(node.all_input_nodes[0])
            return "last" if sizes and old and sizes[-1] == old[-1] else ""
        if kind in {"transpose", "permute"}:
            count = len(shape(node))
            order = arguments.get("dims") or [arguments["dim0"], arguments["dim1"]]
            order = [axis % count for axis in order]
            still = (
                order[-1] == count - 1
                if "dims" in arguments
                else count - 1 not in order
            )
            return "last" if still else ""
        return ""

    def _part(self, node: fx.Node) -> tuple[fx.Node, int, int] | None:
        """Return the source and range of a part that is split off the last axis.

        Parts of one split do not overlap, so that no other one sees these rows.
        """
        if len(node.args) != 2:
            return None
        split, index = node.args
        if not isinstance(split, fx.Node) or not isinstance(index, int):
            return None
        if name(split) not in {"split", "split_with_sizes", "chunk"}:
            return None
        source, sizes = (
            split.all_input_nodes[0],
            [v.shape[-1] for v in split.meta["val"]],
        )
        axis = self.arguments[split]["dim"] % len(shape(source))
        whole = axis == len(shape(source)) - 1 and sum(sizes) == shape(source)[-1]
        if not whole or len(source.users) != 1:
            return None
        lo = sum(sizes[:index])
        return source, lo, lo + sizes[index]


def _bias(node: Any, axis: int) -> _Bias | None:
    return _Bias(node, axis) if isinstance(node, fx.Node) else None


def _pair(arguments: Mapping[str, Any], mine: fx.Node) -> list[Any]:
    """Return the biases, of the input and of the state, of a layer and direction."""
    weights = arguments.get("params")
    if not isinstance(weights, list | tuple) or not arguments["has_biases"]:
        return []
    count = arguments["num_layers"] * (2 if arguments["bidirectional"] else 1)
    each = len(weights) // count  # an LSTM may have a projection as well
    at = weights.index(mine) // each * each if mine in weights else 0
    return list(weights[at + 2 : at + 4])
