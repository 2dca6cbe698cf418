"""Tensors that are read from files where they are needed, or drawn like these."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from zlib import crc32

import torch
from torch import Tensor

from plumbob.errors import InputError
from plumbob.survey.evaluate import Store
from plumbob.survey.files import Entry
from plumbob.survey.weights import dtype_of, read

BLOCK = 1 << 24  # bytes that are read at once


class Stored:
    """The parameters and buffers of a model, most of them in files.

    Args:
        entries: where the values are, by name.
        others: tensors that are in no file, such as buffers that are not saved.
    """

    def __init__(self, entries: Mapping[str, Entry], others: Mapping[str, Tensor]):
        self.entries = entries
        self.others = {n: t for n, t in others.items() if n not in entries}

    def dtype(self, name: str) -> torch.dtype:
        """Return what the values of a tensor are stored as."""
        if name in self.others:
            return self.others[name].dtype
        return dtype_of(self._entry(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the size of a tensor along each axis."""
        known = name in self.others
        return tuple(self.others[name].shape) if known else self._entry(name).shape

    def blocks(self, name: str) -> Iterator[tuple[int, Tensor]]:
        """Yield the rows of a tensor in order, and the number of the first one.

        Raises:
            InputError: there is no such tensor, or it has no values.
        """
        if name in self.others:
            if self.others[name].is_meta:
                raise InputError(
                    f"expected values of '{name}', which is in no file: let the model "
                    "compute it when it is built"
                )
            yield 0, self.others[name].detach()
            return
        entry = self._entry(name)
        if not (entry.shape and entry.shape[0]):
            yield 0, read(entry)
            return
        count, size = entry.shape[0], entry.stop - entry.start
        step = max(1, count * BLOCK // max(size, 1))
        for first in range(0, count, step):
            yield first, _part(entry, first, min(first + step, count))

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Return some rows of a tensor."""
        if name in self.others:
            return self.others[name].detach()[index]
        entry = self._entry(name)
        return torch.cat([_part(entry, i, i + 1) for i in index.tolist()])

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise InputError(f"expected values of '{name}', which is in no file")
        return self.entries[name]


def _part(entry: Entry, first: int, last: int) -> Tensor:
    """Read some rows of a tensor."""
    each = (entry.stop - entry.start) // max(entry.shape[0], 1)
    part = replace(
        entry,
        shape=(last - first, *entry.shape[1:]),
        start=entry.start + first * each,
        stop=entry.start + last * each,
    )
    return read(part)


class Drawn:
    """Random values in place of the parameters of a store; buffers stay.

    Matrices keep the scale of what they multiply. The same rows are the same however
    often they are read.
    """

    def __init__(self, store: Store, parameters: Collection[str], seed: int):
        self.store, self.parameters, self.seed = store, parameters, seed

    def dtype(self, name: str) -> torch.dtype:
        """Return what values are drawn as."""
        return torch.float64 if name in self.parameters else self.store.dtype(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the size of a tensor along each axis."""
        return self.store.shape(name)

    def blocks(self, name: str) -> Iterator[tuple[int, Tensor]]:
        """Yield the rows of a tensor in order, and the number of the first one."""
        if name not in self.parameters:
            yield from self.store.blocks(name)
            return
        count, step = (self.shape(name) or (1,))[0], self._step(name)
        for first in range(0, count, step):
            rows = self._draw(name, first, min(step, count - first))
            yield first, rows if self.shape(name) else rows.reshape(())

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Return some rows of a tensor, in ascending order."""
        if name not in self.parameters:
            return self.store.rows(name, index)
        step, count = self._step(name), self.shape(name)[0]
        found: list[Tensor] = []
        for first in (index // step * step).unique().tolist():
            rows = self._draw(name, first, min(step, count - first))
            mine = index[(index >= first) & (index < first + step)]
            found.append(rows[mine - first])
        return torch.cat(found)

    def _step(self, name: str) -> int:
        shape = self.shape(name)
        width = max(1, torch.Size(shape[1:]).numel())
        return max(1, BLOCK // 8 // width)

    def _draw(self, name: str, first: int, count: int) -> Tensor:
        shape = self.shape(name)
        seed = crc32(f"{self.seed} {first} {name}".encode())
        source = torch.Generator().manual_seed(seed)
        drawn = torch.randn(count, *shape[1:], dtype=torch.float64, generator=source)
        if len(shape) > 1:
            drawn /= (torch.Size(shape).numel() / max(shape)) ** 0.5
        return drawn
