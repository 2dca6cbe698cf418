"""What taps held at a step, on its way from the device to float64 moments."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from math import inf
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plumbob.survey.stream.later import sent
from plumbob.survey.stream.ranks import (
    BEYOND,
    COUNT,
    HIGH,
    LOW,
    POSITIVE,
    ROWS,
    SHIFT,
    SPOILT,
    SQUARES,
    SUM,
    joined,
)
from plumbob.types import Moments

# The rows after the shift before anything is added
EMPTY = (0.0, 0.0, 0.0, 0.0, -inf, inf, 0.0)


class Units(NamedTuple):
    """The units of one site; `beyond` counts |z| above the threshold, if it has one."""

    z: Moments
    samples: int
    beyond: Int[Any, " units"] | None


class Part(NamedTuple):
    """The states of some taps side by side, and where they are copied to."""

    names: Sequence[str]
    sizes: Sequence[int]
    packed: Float[Any, "rows units"]
    event: Any


class Taken:
    """One copy per device, begun at once and waited for only by `read`.

    Read it a step later, when it has long arrived; nothing is lost by never reading.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        samples: int,
        shares: Mapping[str, float],
        watched: frozenset[str],
        on_read: Callable[[Iterable[str]], None],
    ) -> None:
        self.parts = parts
        self.samples = samples
        self.shares = shares  # of the samples, that each site has measured
        self.watched = watched  # sites with a threshold
        self.on_read = on_read  # told of the sites that gave anything

    @property
    def ready(self) -> bool:
        """Whether `read` need not wait."""
        return all(part.event is None or part.event.query() for part in self.parts)

    def read(self) -> dict[str, Units]:
        """Return the units of each site that was called."""
        found: dict[str, Units] = {}
        for part in self.parts:
            if part.event is not None:
                part.event.synchronize()
            facts = part.packed.numpy().astype(np.float64)
            units = sum(part.sizes)
            samples = int(facts[COUNT, units]) if facts[0].size > units else 0
            z = _moments(facts)
            end = 0
            for name, size in zip(part.names, part.sizes, strict=True):
                own = slice(end, end := end + size)
                most = int((z.count[own] + z.nonfinite[own]).max())
                if not most:
                    continue
                heard = round((samples or self.samples or most) * self.shares[name])
                beyond = facts[BEYOND, own].astype(np.int64)
                found[name] = Units(
                    z=_some(z, own),
                    samples=min(max(heard, 1), most),
                    beyond=beyond if name in self.watched else None,
                )
        self.on_read(found)
        return found


def take(
    states: Mapping[str, Tensor], samples: int, *, together: bool, centre: bool
) -> list[Part]:
    """Copy the states and empty them; one pass per device.

    No operation waits for the device. With `together` the copies are of all ranks,
    with `centre` the shift becomes the mean so far.
    """
    devices: dict[torch.device, list[str]] = {}
    for name, state in states.items():
        devices.setdefault(state.device, []).append(name)
    parts: list[Part] = []
    for names in devices.values():
        some = [states[name] for name in names]
        sizes = [state.shape[1] for state in some]
        packed = torch.cat(some, dim=1)
        empty = _empty(packed.device, packed.dtype)
        if centre:
            shifts = _centred(packed).split(sizes)
            torch._foreach_copy_([s[SHIFT] for s in some], list(shifts))  # pyright: ignore
        rows = [state[COUNT:] for state in some]
        torch._foreach_copy_(rows, [empty.expand_as(row) for row in rows])  # pyright: ignore
        if together:
            packed = joined(packed, samples)
        parts.append(Part(names, sizes, *sent(packed)))
    return parts


@cache
def _empty(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return EMPTY as a column; made anew it would wait for the device."""
    with torch.inference_mode(False):
        return torch.tensor(EMPTY, device=device, dtype=dtype)[:, None]


def _centred(packed: Tensor) -> Tensor:
    """Return the mean so far as the shift, or 0 where that is not finite."""
    count, shift = packed[COUNT], packed[SHIFT]
    mean = torch.where(count > 0, shift + packed[SUM] / count, shift)
    return torch.where(mean.isinf() | mean.isnan() & (count > 0), 0.0, mean)


def _some(z: Moments, own: slice) -> Moments:
    return Moments(**{f.name: getattr(z, f.name)[own] for f in fields(Moments)})


def _moments(rows: Float[Any, "rows units"]) -> Moments:
    """Return the moments; of a unit that was not finite throughout, none."""
    fine = np.isfinite(rows[SQUARES]) & (rows[COUNT] > 0)
    spoilt = rows[SPOILT] if len(rows) > ROWS else np.where(fine, 0, rows[COUNT])
    own = np.where(fine, rows[:ROWS], np.array([0.0, *EMPTY])[:, None])
    count, total = own[COUNT], own[SUM]
    mean = total / np.maximum(count, 1)
    return Moments(
        count=count.astype(np.int64),
        mean=own[SHIFT] + mean,
        m2=np.maximum(own[SQUARES] - total * mean, 0.0),
        low=own[LOW],
        high=own[HIGH],
        positive=own[POSITIVE].astype(np.int64),
        nonfinite=spoilt.astype(np.int64),
    )
