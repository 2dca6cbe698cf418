"""The domain of finite additive shifts.

A parameter p is moved to p + d by any amount. At every node the value f then becomes
f + s; a `Shift` says along which axes s may vary and whether it may depend on the
input. All rules are about finite s, so nothing is linearised, and an operation
without a rule returns a shift about which nothing is known: the domain errs on one
side only. IEEE infinities are covered: -inf + s is -inf.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import gcd, prod
from typing import Any, Union

import torch
from torch import fx

Factor = tuple[int, bool]  # size of a part of an axis, and whether s varies along it


@dataclass(frozen=True, slots=True)
class Shift:
    """What is known of s.

    Each axis is a tuple of factors, outermost first: an axis that merges 2 batches
    and 4 heads is ((2, False), (4, True)) where s differs between heads only. s is 0
    outside the index ranges `within` (axis, low, high), and the flags say how it varies
    inside them. `asked` tells that s was
    multiplied by values that it does not depend on, as a key is by its query. `amount`
    names its values: two shifts with the same one are equal.
    """

    axes: tuple[tuple[Factor, ...], ...]
    depends: bool
    within: tuple[tuple[int, int, int], ...] = ()
    asked: bool = False
    amount: Any = None

    @property
    def varies(self) -> frozenset[int]:
        """The axes along which s may vary, where it starts and stops included."""
        mine = {i for i, f in enumerate(self.axes) if any(v for _, v in f)}
        return frozenset(mine.union(axis for axis, _, _ in self.within))

    def run(self, axis: int) -> int:
        """Return how many values in a row, from the first on, are surely alike."""
        alike = 1
        for size, varies in reversed(self.axes[axis]):
            if varies:
                break
            alike *= size
        ends = [(lo, hi) for a, lo, hi in self.within if a == axis]
        return gcd(alike, *chain(*ends))

    def __str__(self) -> str:
        along = ", ".join(map(str, sorted(self.varies)))
        place = f"along {'axes' if ',' in along else 'axis'} {along}" if along else ""
        text = place or "by the same amount everywhere"
        return text + " depending on the input" * self.depends


@dataclass(frozen=True, slots=True)
class End:
    """s stops here: by which kind of operation, and why, in a sentence."""

    by: str
    why: str


Fate = Union[Shift, End, None, "list[Fate]"]


@dataclass(frozen=True, slots=True)
class Op:
    """One node as its rule sees it; `depends` are nodes that vary with the input."""

    node: fx.Node
    arguments: Mapping[str, Any]
    shifts: Mapping[fx.Node, Fate]
    depends: frozenset[fx.Node]
    sums: Mapping[fx.Node, int]  # axis along which a node's values sum to one
    sizes: tuple[int, ...] | None = None  # of the result, where not the node's own

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the result."""
        return shape(self.node) if self.sizes is None else self.sizes

    def shift(self, name: str) -> Shift | None:
        """Return the shift of an argument, None where it has none."""
        value = self.arguments.get(name)
        found = self.shifts.get(value) if isinstance(value, fx.Node) else None
        return found if isinstance(found, Shift) else None

    def only(self, name: str) -> Shift | None:
        """Return the shift of an argument where no other one is shifted."""
        mine = self.arguments.get(name)
        once = list(self.arguments.values()).count(mine) == 1
        return self.shift(name) if once and self.moved() <= {mine} else None

    def moved(self) -> set[Any]:
        """Return the nodes that it reads and that are shifted."""
        return {n for n in self.node.all_input_nodes if self.shifts.get(n) is not None}

    def unknown(self) -> Fate:
        """Return shifts of the results of which nothing is known."""
        value = self.node.meta.get("val")
        if isinstance(value, (list, tuple)):
            return [anything(v.shape) if torch.is_tensor(v) else None for v in value]
        return anything(self.shape)


def name(node: fx.Node) -> str:
    """Return the name of an aten operation without its overload."""
    schema = getattr(node.target, "_schema", None)
    return schema.name.removeprefix("aten::") if schema else str(node.target)


def shape(node: fx.Node) -> tuple[int, ...]:
    """Return the sizes of a node's tensor; 0 stands for one that is not fixed."""
    value = node.meta.get("val")
    sizes: tuple[Any, ...] = getattr(value, "shape", ())
    return tuple(n if isinstance(n, int) else 0 for n in sizes)


def anything(sizes: Sequence[Any]) -> Shift:
    """Return the shift of which nothing is known."""
    return plain([n if isinstance(n, int) else 0 for n in sizes], range(len(sizes)))


def plain(
    sizes: Sequence[int], varies: Any, depends: bool = True, asked: bool = False
) -> Shift:
    """Return a shift without factors and ranges."""
    axes = tuple(((int(n), i in varies),) for i, n in enumerate(sizes))
    return Shift(axes, depends, (), asked)


def spread(sizes: Sequence[int], out: Sequence[int]) -> set[int]:
    """Return the axes of `out` along which a tensor of these sizes can vary."""
    lead = len(out) - len(sizes)
    return {i + lead for i, n in enumerate(sizes) if n != 1 or out[i + lead] == 1}


def broadcast(shift: Shift, out: Sequence[int]) -> Shift:
    """Carry a shift to the larger sizes `out`; what is repeated does not vary."""
    lead = len(out) - len(shift.axes)
    axes: list[tuple[Factor, ...]] = [((n, False),) for n in out[:lead]]
    for i, factors in enumerate(shift.axes):
        old, new = prod(n for n, _ in factors), out[i + lead]
        axes.append(factors if old == new else ((new, False),))
    within = tuple(
        (a + lead, lo, hi)
        for a, lo, hi in shift.within
        if sizes_of(shift)[a] == out[a + lead]
    )
    return replace(shift, axes=tuple(axes), within=within)


def sizes_of(shift: Shift) -> list[int]:
    """Return the sizes of the axes of a shift."""
    return [prod(n for n, _ in factors) for factors in shift.axes]


def move(shift: Shift, order: Sequence[int]) -> Shift:
    """Permute axes: axis i of the result is axis order[i] of the shift."""
    within = tuple((order.index(a), lo, hi) for a, lo, hi in shift.within if a in order)
    return replace(shift, axes=tuple(shift.axes[i] for i in order), within=within)


def dims(value: Any, count: int) -> list[int]:
    """Return axes as given to a reduction, none below zero."""
    whole = list(range(count)) if value is None or value == [] else value
    return [d % count for d in (whole if isinstance(whole, list | tuple) else [whole])]


def channels(op: Op, shift: Shift, channel: int = 1) -> Shift:
    """Lay a vector along the axis of channels."""
    after = len(op.shape) - channel - 1
    axes = (*shift.axes, *[((1, False),)] * after)
    return broadcast(replace(shift, axes=axes), op.shape)


def first(op: Op) -> Op:
    """Return an operation as if its first result were its only one."""
    value = op.node.meta["val"]
    if isinstance(value, torch.Tensor):
        return op
    return replace(op, sizes=tuple(value[0].shape))


def statistics(op: Op, fate: Fate) -> Fate:
    """Say that all results but the first, means and the like, may be shifted."""
    unknown = op.unknown()
    return [fate, *unknown[1:]] if isinstance(unknown, list) else fate
