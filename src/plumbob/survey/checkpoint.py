"""A checkpoint on disk -> a survey: block by block, numpy only, executing nothing."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from plumbob.errors import FileError
from plumbob.survey.census import BLOCK, RAW, Tally, UnitSums, decode, twins
from plumbob.survey.files import Entry, blocks, entries
from plumbob.survey.stored import Map, maps
from plumbob.types import Census, Needs, Reading, Rows, Survey

UNITS = 1 << 21  # more units, or longer ones, would need memory of a tensor's own size

Placed = tuple[tuple[int, int], Shaped[Any, "outer unit inner"]]


def read(path: str | Path, *, on_tensor: Callable[[str], None] | None = None) -> Survey:
    """Survey the weights of a safetensors file or folder.

    Sites are known by name and shape only (see `stored.maps`). `unseen` lists what is
    in the file and was not judged.

    Args:
        path: a safetensors file, an index of shards, or a folder of either.
        on_tensor: called before each tensor with its name.

    Raises:
        FileError: nothing there, of another kind, truncated or not what it claims.
    """
    found = entries(path)
    known = {m.site.weight: m for m in maps(found)}
    held = {entry.name: entry for entry in found}
    tensors: dict[str, Census] = {}
    readings: dict[str, Reading] = {}
    only = "a checkpoint holds weights only"
    kinds = ("graph", "activations", "gradients", "targets")
    unseen: dict[str, str] = dict.fromkeys(kinds, only)
    unseen["spectra"] = "a file is read in blocks, no matrix as a whole"
    for entry in found:
        if on_tensor:
            on_tensor(entry.name)
        if entry.dtype in RAW:
            place = known.get(entry.name)
            bias = held.get((place and place.site.bias) or "")
            tensors[entry.name], rows = _tensor(entry, place, bias, unseen)
            if rows and place:
                readings[place.site.name] = Reading(rows=rows)
        else:
            unseen[entry.name] = f"{entry.dtype}: not a floating-point weight"
    if not tensors:
        raise FileError(
            f"Expected floating-point weights in {path}, got {len(found)} tensors of "
            f"{', '.join(sorted({e.dtype for e in found}))}."
        )
    dtypes = Counter[str]()
    for tensor in tensors.values():
        dtypes[tensor.dtype] += tensor.count
    return Survey(
        sites=tuple(m.site for m in known.values()),
        known=Needs.WEIGHTS,
        readings=readings,
        tensors=tensors,
        unseen=unseen,
        about={
            "source": str(path),
            "files": len({entry.path for entry in found}),
            "parameters": dtypes.total(),
            "dtype": dtypes.most_common(1)[0][0],
        },
    )


def _tensor(
    entry: Entry, place: Map | None, bias: Entry | None, unseen: dict[str, str]
) -> tuple[Census, Rows | None]:
    tally = Tally(entry.dtype)
    view = place.view if place else None
    if place and place.why:
        unseen[entry.name] = f"units not judged: {place.why}"
    if view and max(view[1], _row(view), view[0] * view[2]) > UNITS:
        unseen[entry.name] = "units not judged: too many or too long"
        view = None
    if not view:
        room = np.empty(BLOCK)
        for block in blocks(entry, RAW[entry.dtype], BLOCK):
            tally.add(block, decode(block, entry.dtype, room))
        return tally.census(entry.shape), None
    sums, room = UnitSums(*view), np.empty(_step(view) * _row(view))
    for first, block in _placed(entry, view):
        values = decode(block, entry.dtype, room)
        tally.add(block, values)
        sums.add(first, values)
    raw = _whole(bias) if bias else None
    rows = Rows(
        norm=np.sqrt(sums.units),
        columns=np.sqrt(sums.columns.reshape(-1)),
        twin=twins(
            sums.units, [] if raw is None else [raw], lambda: _placed(entry, view)
        ),
        bias=decode(raw, bias.dtype) if raw is not None and bias else None,
    )
    return tally.census(entry.shape), rows


def _placed(entry: Entry, view: tuple[int, int, int]) -> Iterator[Placed]:
    """Yield whole rows of (outer, out, inner), each with its first place."""
    outer, out, inner = view
    step, place = _step(view), 0
    for block in blocks(entry, RAW[entry.dtype], step * _row(view)):
        if outer == 1:
            yield (0, place), block.reshape(1, -1, inner)
        else:
            yield (place, 0), block.reshape(-1, out, inner)
        place += step


def _row(view: tuple[int, int, int]) -> int:
    """Return how many values lie together: a unit's, or one of each unit's."""
    outer, out, inner = view
    return inner if outer == 1 else out * inner


def _step(view: tuple[int, int, int]) -> int:
    return max(1, BLOCK // _row(view))


def _whole(entry: Entry) -> Shaped[Any, " values"]:
    count = (entry.stop - entry.start) // RAW[entry.dtype].itemsize
    block = next(blocks(entry, RAW[entry.dtype], max(count, 1)))
    return np.array(block)
