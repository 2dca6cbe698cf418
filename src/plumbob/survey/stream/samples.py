"""Samples of tensors side by side in rows of one buffer, and their inner products."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float, Num
from torch import Tensor

ROW = 64  # elements that lie together: a few cache lines
ROWS = 256  # of a large tensor
WHOLE = 2 * ROW * ROWS  # elements: a tensor of no more is measured whole


class Samples:
    """Where the samples of some tensors lie: runs that are spread evenly over each.

    With 256 runs of 64, each at other columns than the one before, the norm of a
    matrix whose squared row norms vary like exponential numbers is known to about 3 %.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.device = tensors[0].device
        self.orders: list[tuple[int, ...]] = []  # memory orders: those of the tensors
        self.runs: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self.starts: list[int] = []
        owners: list[int] = []
        factors: list[float] = []
        for number, t in enumerate(tensors):
            n = t.numel()
            whole = n <= WHOLE
            size = (n,) if whole else (ROWS, ROW)
            self.runs.append((size, (1,) if whole else ((n - ROW) // (ROWS - 1), 1)))
            self.orders.append(torch.empty_like(t, device="meta").stride())
            self.starts.append(len(owners) * ROW)
            owners += [number] * (-(-n // ROW) if whole else ROWS)
            factors.append(1.0 if whole else n / (ROWS * ROW))
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        doubles = any(t.dtype in {torch.float64, torch.complex128} for t in tensors)
        self.dtype = torch.float64 if doubles else torch.float32
        self.factors = torch.tensor(factors, dtype=exact, device=self.device)
        self.owners = torch.tensor(owners, dtype=torch.long, device=self.device)

    def room(self) -> Float[Tensor, "rows 64"]:
        """Return zeros, as many as all samples hold."""
        rows = len(self.owners)
        return torch.zeros(rows, ROW, dtype=self.dtype, device=self.device)

    def places(self, room: Float[Tensor, "rows 64"]) -> list[Tensor]:
        """Return the places of samples in contiguous rows, as many as they hold."""
        offset = room.storage_offset()
        return [
            room.as_strided(size, (ROW, 1)[-len(size) :], offset + start)
            for start, (size, _) in zip(self.starts, self.runs, strict=True)
            if start + prod(size) <= room.numel()
        ]

    def pick(self, number: int, t: Tensor) -> Tensor:
        """Return the sample of a tensor: a view, if it is in the memory order."""
        order = self.orders[number]
        if t.stride() != order:
            room = torch.empty_strided(t.shape, order, dtype=t.dtype, device=t.device)
            t = room.copy_(t)
        return t.as_strided(*self.runs[number], t.storage_offset())

    def sums(
        self, rows: Sequence[Num[Tensor, " rows"]]
    ) -> Float[Tensor, "kinds tensors"]:
        """Add up rows by tensor."""
        stacked = torch.stack([*rows]).to(self.factors.dtype)
        found = stacked.new_zeros(len(rows), len(self.factors))
        return found.index_add_(1, self.owners, stacked)
