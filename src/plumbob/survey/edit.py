"""What is done to the values of one tensor, a block of its rows at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Blocks = Iterable[tuple[int, Tensor]]  # the first row of each, and its rows


@dataclass(frozen=True, slots=True)
class Edit:
    """Add a tensor to rows lo..hi of another one, or make them 0 where it is None.

    Rows are counted along `axis`. There `by` holds one number for each of as many equal
    runs of rows, and it holds as many as the tensor along all other axes.
    """

    name: str
    rows: tuple[int, int]
    by: Float[Tensor, "..."] | None = None
    axis: int = 0

    def on(self, block: Float[Tensor, "..."], first: int = 0) -> Float[Tensor, "..."]:
        """Return what becomes of rows `first`.. of the tensor."""
        lo, hi = self.rows
        start, end = lo, hi
        if self.axis == 0:
            start, end = max(lo - first, 0), min(hi - first, len(block))
            if start >= end:
                return block
        block = block.clone()
        own = block.narrow(self.axis, start, end - start)
        if self.by is None:
            own.zero_()
            return block
        each = (hi - lo) // self.by.shape[self.axis]
        if self.axis:
            by, place = self.by[first : first + len(block)], torch.arange(hi - lo)
        else:
            by, place = self.by, torch.arange(start, end) + (first - lo)
        own += by.to(own).index_select(self.axis, (place // each).to(own.device))
        return block


def common_part(
    blocks: Blocks, rows: tuple[int, int], groups: int, axis: int, eps: float
) -> Float[Tensor, "..."] | None:
    """Return the mean of each group of rows along an axis, None if it is rounding.

    Args:
        blocks: the tensor, in float64.
        rows: those that count.
        groups: equal runs of them.
        axis: along which rows are counted.
        eps: one unit in the last place of the tensor's own dtype.
    """
    mean, most = (
        _by_rows(blocks, rows, groups)
        if axis == 0
        else _across(blocks, rows, groups, axis)
    )
    return None if bool((mean.abs() <= eps * most).all()) else mean


def _across(
    blocks: Blocks, rows: tuple[int, int], groups: int, axis: int
) -> tuple[Tensor, Tensor]:
    means: list[Tensor] = []
    most: list[Tensor] = []
    for _, block in blocks:
        own = block.narrow(axis, rows[0], rows[1] - rows[0])
        parts = own.unflatten(axis, (groups, -1))
        means.append(parts.mean(axis + 1))
        most.append(parts.abs().amax(axis + 1))
    return torch.cat(means), torch.cat(most)


def _by_rows(
    blocks: Blocks, rows: tuple[int, int], groups: int
) -> tuple[Tensor, Tensor]:
    (lo, hi), each = rows, (rows[1] - rows[0]) // groups
    total: Tensor | None = None
    most: Tensor | None = None
    for first, block in blocks:
        if total is None or most is None:
            total = block.new_zeros(groups, *block.shape[1:])
            most = total.clone()
        for group, start, end in _runs(lo, hi, each, first, first + len(block)):
            own = block[start - first : end - first]
            total[group] += own.sum(0)
            most[group] = torch.maximum(most[group], own.abs().amax(0))
    if total is None or most is None:
        raise ValueError("expected a tensor with rows, got no block")
    return total / each, most


def _runs(
    lo: int, hi: int, each: int, first: int, last: int
) -> Iterator[tuple[int, int, int]]:
    """Yield which rows of first..last lie in which group."""
    for group in range((hi - lo) // each):
        start, end = lo + group * each, lo + (group + 1) * each
        if max(start, first) < min(end, last):
            yield group, max(start, first), min(end, last)
