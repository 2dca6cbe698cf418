"""Operations that order values: what all of them share moves none past another."""

from collections.abc import Callable
from dataclasses import replace
from math import prod

from plumbob.survey.domain import End, Fate, Op, Shift, dims, move, name


def _extreme(op: Op) -> Fate:
    """The largest, the smallest, or their soft form, along some axes."""
    shift, arguments = op.only("self"), op.arguments
    if shift is None or "other" in arguments:
        return None
    count = len(shift.axes)
    gone = set(dims(arguments.get("dim"), count))
    if gone & shift.varies:
        return None
    axes = tuple(((1, False),) if i in gone else f for i, f in enumerate(shift.axes))
    kept = replace(shift, axes=axes)
    if not arguments.get("keepdim"):
        kept = move(kept, [i for i in range(count) if i not in gone])
    pair = "dim" in arguments and name(op.node) in {"max", "min"}
    return [kept, None] if pair else kept


def _sorted(op: Op) -> Fate:
    """The values in order, all or the first, and their places."""
    shift = _alike(op)
    if shift is None:
        return None
    axis = op.arguments["dim"] % len(shift.axes)
    axes = list(shift.axes)
    if "k" in op.arguments:
        axes[axis] = ((op.node.meta["val"][0].shape[axis], False),)
    return [replace(shift, axes=tuple(axes)), None]


def _places(op: Op) -> Fate:
    why = "argmax, like any order, does not see what all values share"
    return None if _alike(op) is None else End("argmax", why)


def _alike(op: Op) -> Shift | None:
    """Return the shift of what is put in order, where it keeps every order."""
    shift, axis = op.only("self"), op.arguments.get("dim")
    if shift is None:
        return None
    if axis is None:  # all values in one row
        return None if shift.varies else shift
    return None if axis % max(len(shift.axes), 1) in shift.varies else shift


def _deviation(op: Op) -> Fate:
    """A variance or standard deviation, alone or with the mean."""
    shift = op.only("self")
    if shift is None:
        return None
    if shift.varies & set(dims(op.arguments.get("dim"), len(shift.axes))):
        return None
    if "mean" in name(op.node):
        return None
    return End("difference", "a variance does not see what all values share")


def _padded(op: Op) -> Fate:
    """Padding by the values themselves; by a number it is `constant_pad_nd`."""
    shift, arguments = op.only("self"), op.arguments
    pad: list[int] = arguments.get("pad") or arguments["padding"]
    if shift is None or arguments.get("mode", "") == "constant":
        return None
    count = len(op.shape)
    padded = {count - 1 - i // 2 for i, n in enumerate(pad) if n}
    if padded & shift.varies:
        return None
    axes = tuple(
        f if prod(n for n, _ in f) == size else ((size, False),)
        for f, size in zip(shift.axes, op.shape, strict=True)
    )
    return replace(shift, axes=axes)


RANKS: dict[str, Callable[[Op], Fate]] = {
    **dict.fromkeys(("max", "min", "amax", "amin", "logsumexp"), _extreme),
    **dict.fromkeys(("topk", "sort"), _sorted),
    **dict.fromkeys(("argmax", "argmin", "argsort"), _places),
    **dict.fromkeys(("var", "std"), _deviation),
    **{
        f"{how}_pad{n}d": _padded
        for how in ("reflection", "replication")
        for n in (1, 2, 3)
    },
    "pad": _padded,
}
