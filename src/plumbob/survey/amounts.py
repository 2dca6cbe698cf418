"""When two shifts are the same one, so that they cancel, or one bias carries both.

A shift is named by how it came from its seed. Two with one name have equal values at
equal indices, counted from the last axis, wherever they are in the graph. Only names
of what does not depend on the input are kept.
"""

from typing import Any

from torch import fx

from plumbob.survey.carry import CARRY
from plumbob.survey.domain import Fate, Op, Shift, dims, name, shape

SEED = "seed"
_SAME = {"clone", "contiguous", "to", "_to_copy", "alias", "detach", "type_as"} | {
    *("expand", "lift_fresh_copy", "dropout", "native_dropout"),
}
# what is the same number everywhere stays it wherever values go
_EVERYWHERE = (CARRY.keys() - {"cat"}) | {
    *("max", "min", "amax", "amin", "topk", "sort", "logsumexp", "mean"),
    *("flip", "roll", "pad"),
}
_PRODUCTS = {"matmul", "bmm", "mm", "baddbmm", "addmm"}


def amount(op: Op, fate: Fate, index: int = 0) -> Any:
    """Return the name of a shift that an operation returns, None where it has none."""
    moved = op.moved()
    if len(moved) != 1 or not isinstance(fate, Shift) or fate.depends:
        return None
    (source,) = moved
    shift = op.shifts[source]
    if not isinstance(shift, Shift) or shift.amount is None or shift.depends:
        return None
    kind = name(op.node)
    if _kept(op, kind, source, shift):
        return shift.amount
    if not (shift.varies or fate.varies) and (kind in _EVERYWHERE or "pool" in kind):
        return shift.amount
    if kind in CARRY and kind != "cat":
        return (kind, index, *_how(op, kind, source, shift), shift.amount)
    if kind in {"mul", "div"} or kind in _PRODUCTS:
        others = [v for v in op.node.args if v is not source]
        return (kind, op.node.args.index(source), *others, shift.amount)
    if (kind == "linear" or kind.startswith("conv")) and len(op.node.args) > 1:
        at = op.node.args.index(source)
        rest = op.node.args[3:] if at == 2 else (op.node.args[1], *op.node.args[3:])
        return (kind, at, *rest, shift.amount)
    return None


def cancels(op: Op) -> bool:
    """Return whether an operation subtracts a shift from itself."""
    first, second = op.shift("self"), op.shift("other")
    return (
        name(op.node) in {"sub", "rsub"}
        and first is not None
        and second is not None
        and first.amount is not None
        and first.amount == second.amount
        and not (first.depends or second.depends)
        and op.arguments.get("alpha", 1) == 1
        and len(op.moved()) == len(op.node.all_input_nodes)
    )


def _kept(op: Op, kind: str, source: fx.Node, shift: Shift) -> bool:
    """Return whether the values stay where they are, counted from the last axis."""
    arguments = op.arguments
    if kind in _SAME:
        return True
    if kind in {"add", "sub"}:
        scaled = arguments.get("alpha", 1) != 1 and arguments["other"] is source
        minus = kind == "sub" and arguments["other"] is source
        return not (scaled or minus or arguments["self"] is arguments["other"])
    if kind in {"linear", "layer_norm"}:
        return arguments["bias"] is source
    if kind in {"mean", "amax", "amin"}:
        gone = set(dims(arguments.get("dim"), len(shift.axes)))
        return bool(arguments.get("keepdim")) and not gone & shift.varies
    if kind in {"matmul", "bmm"}:  # an average of equal values
        x, y = (v for v in op.node.args[:2] if isinstance(v, fx.Node))
        last = len(shift.axes) - 1
        apart = op.sums.get(x) != len(shape(x)) - 1 or last - 1 in shift.varies
        return source is y and not apart
    if kind != "scaled_dot_product_attention" or arguments["value"] is not source:
        return False
    return shape(source)[:-2] == shape(op.node)[:-2]  # else heads are repeated


def _how(op: Op, kind: str, source: fx.Node, shift: Shift) -> tuple[Any, ...]:
    """Return all that tells a rearrangement of values from others of its kind."""
    if kind in {"select", "slice"}:
        axis = op.arguments["dim"] % len(shift.axes)
        if axis not in shift.varies:
            return (axis - len(shift.axes),)  # whichever is picked, it is the same
    return (len(shift.axes), *(v for v in op.node.args if v is not source))
