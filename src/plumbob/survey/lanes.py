"""Where the units of a site lie in a tensor further on."""

from dataclasses import dataclass
from math import prod

from torch import fx

from plumbob.survey.ops import (
    NORMS,
    POINTWISE,
    REDUCTIONS,
    argument,
    op,
    shape,
)


@dataclass(frozen=True, slots=True)
class Lane:
    """Units lie in order on `axis` (counted from the end), each `repeat` times."""

    axis: int
    repeat: int = 1


def carry(node: fx.Node, source: fx.Node, lane: Lane | None) -> Lane | None:
    """Return where units of an operand lie in the result; None: mixed or moved."""
    if lane is None or not -len(shape(source)) <= lane.axis < 0:
        return None
    name, old, new = op(node), shape(source), shape(node)
    axis = lane.axis + len(old)
    if name in POINTWISE or name in NORMS or _spatial(name) < -lane.axis:
        kept = len(new) >= -lane.axis and new[lane.axis] == old[lane.axis]
        return lane if kept else None
    if name in {"view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze"}:
        return _regrouped(old, new, axis, lane)
    moved = _moved(node, name, len(old), axis)
    return None if moved is None else Lane(moved - len(new), lane.repeat)


def _moved(node: fx.Node, name: str, rank: int, axis: int) -> int | None:
    """Return the new place, from the front, of an axis that stays whole."""
    if name == "t":
        return rank - 1 - axis
    if name == "transpose":
        i, j = (int(str(a)) % rank for a in node.args[1:3])
        return {i: j, j: i}.get(axis, axis)
    if name == "permute":
        return [d % rank for d in argument(node, 1, "dims")].index(axis)
    if name == "unsqueeze":
        at = int(str(node.args[1])) % (rank + 1)
        return axis + (at <= axis)
    if name == "expand":
        return axis + len(shape(node)) - rank
    if name == "getitem":
        return axis
    if name in {"cat", "stack", "slice", "split", "split_with_sizes", "chunk"}:
        place = 2 if name.startswith("split") or name == "chunk" else 1
        along = argument(node, place, "dim", 0) % rank
        whole = name == "slice" and shape(node) == shape(node.all_input_nodes[0])
        return axis if along != axis or whole else None
    if name in {"select", "unbind"}:
        along = argument(node, 1, "dim", 0) % rank
        return None if along == axis else axis - (along < axis)
    if name in {"roll", "flip", "cumsum", "index_select", "gather"}:
        touched = argument(node, 2 if name == "roll" else 1, "dims", ())
        along = touched if isinstance(touched, (list, tuple)) else [touched]
        if not along:  # a roll of all values as one row
            return None
        return None if axis in [int(str(d)) % rank for d in along] else axis
    if name in REDUCTIONS:
        place = 2 if name in {"linalg_vector_norm", "norm"} else 1
        dims = argument(node, place, "dim")
        if not isinstance(dims, (list, tuple, int)):
            return None
        gone = {d % rank for d in ([dims] if isinstance(dims, int) else dims)}
        kept = len(shape(node)) == rank
        return None if axis in gone else axis - (not kept) * sum(d < axis for d in gone)
    return None


def _spatial(name: str) -> int:
    """Return how many trailing axes a pooling, padding or resizing touches."""
    if name in {"constant_pad_nd", "pad"}:
        return 0  # any; the sizes tell
    if "pool" in name or "upsample" in name or "_pad" in name:
        return next((int(c) for c in name if c in "123"), 99)
    return 99


def _regrouped(
    old: tuple[int, ...], new: tuple[int, ...], axis: int, lane: Lane
) -> Lane | None:
    """Follow an axis through a view: alone, or merged with axes that come after it."""
    i = j = 0
    while i < len(old) and j < len(new):
        low_i, low_j = i, j
        i, j = i + 1, j + 1
        while prod(old[low_i:i]) != prod(new[low_j:j]):
            if prod(old[low_i:i]) < prod(new[low_j:j]):
                i += 1
            else:
                j += 1
        # Axes of size 1 belong to the group before them.
        while i < len(old) and old[i] == 1 and old[axis] != 1:
            i += 1
        while j < len(new) and new[j] == 1 and old[axis] != 1:
            j += 1
        if low_i <= axis < i:
            wide = [k for k in range(low_j, j) if new[k] != 1] or [low_j]
            if len(wide) > 1 or prod(old[low_i:axis]) != 1:
                return None
            return Lane(wide[0] - len(new), lane.repeat * prod(old[axis + 1 : i]))
    return None
