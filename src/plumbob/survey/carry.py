"""How operations that only move, cut or repeat values carry a finite shift."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod

import torch
from torch import Tensor, fx

from plumbob.survey.domain import (
    End,
    Factor,
    Fate,
    Op,
    Shift,
    broadcast,
    dims,
    move,
    name,
    plain,
    shape,
    sizes_of,
)

GONE = End("slice", "the slice that is read leaves it out")


def _view(op: Op) -> Fate:
    shift = op.shift("self")
    if shift is None or 0 in op.shape or "dtype" in op.arguments:
        return None
    within = _ranges(shift, op.shape)
    if _share(shift.within, sizes_of(shift)) != _share(within, op.shape):
        cut = {axis for axis, _, _ in shift.within}  # where it starts is lost
        axes = (
            tuple((n, varies or i in cut) for n, varies in factors)
            for i, factors in enumerate(shift.axes)
        )
        shift = replace(shift, axes=tuple(axes))
    axes = _refactor(shift, op.shape)
    if axes is None:
        return plain(op.shape, range(len(op.shape)), shift.depends, shift.asked)
    return replace(shift, axes=axes, within=within)


def _share(within: Sequence[tuple[int, int, int]], sizes: Sequence[int]) -> Fraction:
    """Return the share of all values that lie in some ranges."""
    return Fraction(
        prod(hi - lo for _, lo, hi in within), prod(sizes[a] for a, _, _ in within)
    )


def _refactor(
    shift: Shift, new: Sequence[int]
) -> tuple[tuple[Factor, ...], ...] | None:
    """Deal the factors of the old axes out to the new ones; None where they overlap."""
    todo = [f for axis in shift.axes for f in axis if f[0] != 1]
    axes: list[tuple[Factor, ...]] = []
    for n in new:
        mine: list[Factor] = []
        while n > 1:
            size, flag = todo.pop(0)
            if size > n:
                if size % n:
                    return None
                todo.insert(0, (size // n, flag))
                size = n
            if n % size:
                return None
            mine.append((size, flag))
            n //= size
        axes.append(tuple(mine))
    return _with_ones(shift, new, axes)


def _with_ones(
    shift: Shift, new: Sequence[int], axes: list[tuple[Factor, ...]]
) -> tuple[tuple[Factor, ...], ...]:
    """Place the axes of size 1, which may have another size in the next batch.

    An axis of size 1 is matched to an old one by how many values precede it. Where
    none matches, it, or its neighbour, may be the axis that varies: both are marked.
    """
    old = sizes_of(shift)
    ones = [(prod(old[:i]), i in shift.varies) for i, n in enumerate(old) if n == 1]
    starts = [prod(new[:i]) for i in range(len(new))]
    result = list(axes)
    for i, n in enumerate(new):
        if n == 1:
            same = [flag for place, flag in ones if place == starts[i]]
            near = _flags(axes[i::-1]) + _flags(axes[i:])
            result[i] = ((1, any(same or near)),)
    for place, flag in ones:
        if flag and not any(
            p == place and n == 1 for p, n in zip(starts, new, strict=True)
        ):
            for i, (start, n) in enumerate(zip(starts, new, strict=True)):
                if start <= place <= start * n:
                    result[i] = tuple((size, True) for size, _ in result[i])
    return tuple(result)


def _flags(axes: Sequence[tuple[Factor, ...]]) -> list[bool]:
    """Return the flags of the first axis that has another size than 1."""
    return [varies for _, varies in next((f for f in axes if f), ())]


def _ranges(shift: Shift, new: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Carry index ranges through a view; where none fits exactly, a wider one."""
    old = sizes_of(shift)
    within: list[tuple[int, int, int]] = []
    for axis, lo, hi in shift.within:
        before, after = prod(old[:axis]), prod(old[axis + 1 :])
        for i, n in enumerate(new):
            start, stop = prod(new[:i]), prod(new[i + 1 :])
            inside = start >= before and stop >= after
            if n == 1 or not inside or stop % after or start % before:
                continue
            step = stop // after  # indices of the old axis per index of this one
            if start == before or lo // (n * step) == (hi - 1) // (n * step):
                ends = lo // step % n, (hi - 1) // step % n + 1
                within += [(i, *ends)] if ends != (0, n) else []
    return tuple(within)


def _permute(op: Op) -> Fate:
    shift, count = op.shift("self"), len(op.shape)
    order = list(range(count))
    if shift is None:
        return None
    if "dims" in op.arguments:
        order = dims(op.arguments["dims"], count)
    elif count > 1:  # transpose, t
        i, j = op.arguments.get("dim0", 0) % count, op.arguments.get("dim1", 1) % count
        order[i], order[j] = j, i
    return move(shift, order)


def _expand(op: Op) -> Fate:
    shift = op.shift("self")
    return shift and broadcast(shift, op.shape)


def _repeat(op: Op) -> Fate:
    """Repeat the whole of each axis; tile may leave the first axes out."""
    shift = op.shift("self")
    if shift is None:
        return None
    times = op.arguments.get("repeats", op.arguments.get("dims"))
    times = [1] * (len(op.shape) - len(times)) + list(times)
    lead = len(times) - len(shift.axes)
    whole = broadcast(shift, [1] * lead + sizes_of(shift))
    if whole.within:
        return plain(op.shape, whole.varies, shift.depends, shift.asked)
    axes = (
        _longer(f, ((n, False), *f)) for n, f in zip(times, whole.axes, strict=True)
    )
    return replace(whole, axes=tuple(axes))


def _repeat_interleave(op: Op) -> Fate:
    """Repeat each value of an axis, as the heads of keys and values."""
    shift, dim = op.shift("self"), op.arguments.get("dim")
    times = op.arguments["repeats"]
    if shift is None or dim is None or not isinstance(times, int):
        return None
    return interleaved(shift, dim % len(shift.axes), times)


def interleaved(shift: Shift, axis: int, times: int) -> Shift:
    """Repeat each value of an axis so many times in a row."""
    axes = list(shift.axes)
    axes[axis] = _longer(axes[axis], (*axes[axis], (times, False)))
    within = tuple(
        (a, lo * times, hi * times) if a == axis else (a, lo, hi)
        for a, lo, hi in shift.within
    )
    return replace(shift, axes=tuple(axes), within=within)


def _longer(
    axis: tuple[Factor, ...], repeated: tuple[Factor, ...]
) -> tuple[Factor, ...]:
    """Return a repeated axis; one of size 1 may have another size in the next batch."""
    one = prod(n for n, _ in axis) == 1 and any(varies for _, varies in axis)
    return ((prod(n for n, _ in repeated), True),) if one else repeated


def _unsqueeze(op: Op) -> Fate:
    shift = op.shift("self")
    if shift is None:
        return None
    at = op.arguments["dim"] % len(op.shape)
    within = tuple((a + (a >= at), lo, hi) for a, lo, hi in shift.within)
    axes = (*shift.axes[:at], ((1, False),), *shift.axes[at:])
    return replace(shift, axes=axes, within=within)


def _squeeze(op: Op) -> Fate:
    shift = op.shift("self")
    if shift is None:
        return None
    sizes = sizes_of(shift)
    gone = dims(op.arguments.get("dim"), len(sizes))
    return move(shift, [i for i, n in enumerate(sizes) if i not in gone or n != 1])


def _cut(shift: Shift, axis: int, lo: int, hi: int) -> Shift | None:
    """Keep the indices lo..hi of an axis; None where s is 0 there."""
    within: list[tuple[int, int, int]] = []
    for a, low, high in shift.within:
        if a == axis:
            low, high = max(low, lo) - lo, min(high, hi) - lo
            if low >= high:
                return None
            if (low, high) == (0, hi - lo):
                continue
        within.append((a, low, high))
    axes = list(shift.axes)
    if hi - lo != sizes_of(shift)[axis]:
        axes[axis] = _runs(shift.axes[axis], lo, hi - lo)
    return replace(shift, axes=tuple(axes), within=tuple(within))


def _runs(factors: tuple[Factor, ...], lo: int, size: int) -> tuple[Factor, ...]:
    """Lay factors from an index on, so far as their runs of equal values stay whole."""
    if not any(varies for _, varies in factors):
        return ((size, False),)
    run = 1
    for width, varies in reversed(factors):
        if varies:
            break
        run *= width
    whole = lo % run == 0 and size % run == 0
    if whole and run > 1:
        return ((size // run, True), (run, False)) if size > run else ((run, False),)
    return ((size, True),)


def _slice(op: Op) -> Fate:
    shift, args = op.shift("self"), op.arguments
    ends = (args["start"], args["end"])
    if shift is None or args["step"] != 1:
        return None
    if not all(isinstance(v, int) or v is None for v in ends):
        return None
    axis = args["dim"] % len(op.shape)
    lo, hi, _ = slice(*ends).indices(sizes_of(shift)[axis])
    return _cut(shift, axis, lo, hi) or GONE


def _select(op: Op) -> Fate:
    shift, args = op.shift("self"), op.arguments
    if shift is None or not isinstance(args["index"], int):
        return None
    axis = args["dim"] % len(shift.axes)
    at = args["index"] % sizes_of(shift)[axis]
    part = _cut(shift, axis, at, at + 1)
    return GONE if part is None else _without(part, axis)


def _without(shift: Shift, axis: int) -> Shift:
    return move(shift, [i for i in range(len(shift.axes)) if i != axis])


def _split(op: Op) -> Fate:
    shift, values = op.shift("self"), op.node.meta["val"]
    if shift is None:
        return None
    axis = op.arguments["dim"] % len(shift.axes)
    drop = values[0].dim() < len(shift.axes)  # unbind
    parts: list[Fate] = []
    at = 0
    for value in values:
        width = 1 if drop else value.shape[axis]
        part = _cut(shift, axis, at, at + width)
        if part is not None and drop:
            part = _without(part, axis)
        parts.append(part or GONE)
        at += width
    return parts


def _cat(op: Op) -> Fate:
    values = [(n, n.meta["val"]) for n in op.arguments["tensors"]]
    nodes = [n for n, value in values if value.numel() != 0]  # a cache starts empty
    shifts = [s for n in nodes if isinstance(s := op.shifts.get(n), Shift)]
    if not shifts:  # only the empty one is shifted
        return GONE
    if len(nodes) == 1:
        return shifts[0]
    axis = op.arguments["dim"] % len(op.shape)
    if len(shifts) == 1 and 0 not in op.shape:
        at = next(i for i, n in enumerate(nodes) if op.shifts.get(n) is shifts[0])
        return _placed(shifts[0], axis, [n.meta["val"].shape[axis] for n in nodes], at)
    varies = {axis}.union(*(s.varies for s in shifts))
    depends = any(s.depends for s in shifts)
    return plain(op.shape, varies, depends, any(s.asked for s in shifts))


def _placed(shift: Shift, axis: int, widths: Sequence[int], at: int) -> Shift:
    """Place a shift among parts that are not shifted, along one axis."""
    lo, axes = sum(widths[:at]), list(shift.axes)
    axes[axis] = _runs(axes[axis], lo, sum(widths))
    ranges = {a: (a, low, high) for a, low, high in shift.within}
    _, low, high = ranges.get(axis, (axis, 0, widths[at]))
    ranges[axis] = (axis, lo + low, lo + high)
    return replace(shift, axes=tuple(axes), within=tuple(ranges.values()))


def _pick(op: Op) -> Fate:
    """Values picked by an index: known where all are alike, or of rows of a table."""
    table = op.only("weight" if "weight" in op.arguments else "self")
    if table is None:
        return None
    if not table.varies:
        return plain(op.shape, (), table.depends)
    index = rows(op.node)
    if index is None:
        return None
    lead = len(op.shape) - len(table.axes) + 1
    apart = 0 in table.varies
    return replace(
        table,
        axes=(*(((n, apart),) for n in op.shape[:lead]), *table.axes[1:]),
        depends=table.depends or (apart and index in op.depends),
        within=tuple((a + lead - 1, lo, hi) for a, lo, hi in table.within if a > 0),
    )


def rows(node: fx.Node) -> fx.Node | None:
    """Return the numbers by which whole rows of a table are picked."""
    table, index = node.args[:2]
    if name(node) == "index" and isinstance(index, list) and len(index) == 1:
        (index,) = index
    elif name(node) != "embedding":
        return None
    value = index.meta.get("val") if isinstance(index, fx.Node) else None
    mask = not isinstance(value, Tensor) or value.dtype in {torch.bool, torch.uint8}
    matrix = isinstance(table, fx.Node) and len(shape(table)) > 1
    return index if matrix and not mask else None  # pyright: ignore[reportReturnType]


CARRY: dict[str, Callable[[Op], Fate]] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "flatten", "unflatten"), _view),
    **dict.fromkeys(("permute", "transpose", "t"), _permute),
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "unbind"), _split),
    **dict.fromkeys(("embedding", "index_select", "index", "gather"), _pick),
    "expand": _expand,
    **dict.fromkeys(("repeat", "tile"), _repeat),
    "repeat_interleave": _repeat_interleave,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "slice": _slice,
    "select": _select,
    "cat": _cat,
}
