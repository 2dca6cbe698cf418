"""The axes and rows that the pictures of a run share, also those of two runs.

The whole model has a row per site with two lanes. Weights: how far z spreads, sd[z],
over units. Biases: the effective bias in spreads of z, beta / sd[z]. Where z was not
measured both are what W and b alone say, for a standardised input.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from plumbob.report.bands import Bands, bands, implied, merged, offset, seen, spread
from plumbob.report.curves import (
    Scale,
    pixel,
    scale_of,
    tag,
    thinned,
)
from plumbob.types import Run, Site

LEFT, RIGHT = 148.0, 12.0  # room for names, and for the last number of the axis
ROWS = 40  # of more sites neighbours share a row
LOSSES = 190.0  # height of the plot of losses


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A site, or neighbours that share a row, with their bands over time."""

    sites: tuple[Site, ...]
    weights: Bands | None
    biases: Bands | None
    implied: bool = False  # from parameters: z was not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The axes that pictures share, also those of two runs side by side."""

    width: float
    last: int
    losses: Scale
    spreads: tuple[float, float]
    reach: float

    @property
    def steps(self) -> Scale:
        """The axis of steps."""
        return Scale(low=0.0, high=float(self.last), start=LEFT, end=self.width - RIGHT)


def rows(run: Run) -> list[Row]:
    """Return what the picture of the whole model shows."""
    history = run.history
    shown = [s for s in run.sites if seen(s, history) or s.weight in history.courses]
    by = ceil(len(shown) / ROWS) or 1
    groups = [shown[i : i + by] for i in range(0, len(shown), by)]
    most = max(16, min(64, 800 // max(len(groups), 1)))
    return [_row(run, group, most) for group in groups]


def _row(run: Run, sites: Sequence[Site], most: int) -> Row:
    last = max(run.history.taken - 1, 1)
    windows = [
        merged(found, last, most)
        for site in sites
        if (found := seen(site, run.history))
    ]
    if windows:
        return Row(
            sites=tuple(sites),
            weights=bands(windows, spread),
            biases=bands(windows, offset),
        )
    sizes = [implied(site, run.history) for site in sites]
    return Row(
        sites=tuple(sites),
        weights=_line([sd for sd, _ in sizes if sd is not None], run, most),
        biases=_line([b for _, b in sizes if b is not None], run, most),
        implied=True,
    )


def _line(series: list[Float[Any, " logs"]], run: Run, most: int) -> Bands | None:
    """Return bands of one number per site and step, over sites."""
    if not series or not len(run.history.steps):
        return None
    last = max(run.history.taken - 1, 1)
    thin = [thinned(run.history.steps, values, last, most) for values in series]
    table = np.stack([t.middle for t in thin])
    # all NaN at a step: nothing is drawn there
    known = np.where(np.isfinite(table).any(axis=0), table, 0.0)
    found = np.nanquantile(known, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0).T
    found[~np.isfinite(table).any(axis=0)] = np.nan
    return Bands(x=thin[0].x, quantiles=found)


def frame(runs: Sequence[tuple[Run, list[Row]]], width: float) -> Frame:
    """Return axes on which all that was measured in these runs has its place."""
    losses = [
        *(series.values for run, _ in runs for series in run.history.losses.values()),
        *(run.history.held.values for run, _ in runs if run.history.held is not None),
    ]
    values = np.concatenate(losses) if losses else np.zeros(0)
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, (0.02, 0.98)) if known.size else (0.0, 1.0)
    log = bool(known.size and known.min() > 0 and high > 20 * low)
    spreads = _all(row.weights for _, table in runs for row in table)
    spreads = spreads[spreads > 0]
    low, high = np.quantile(spreads, (0.01, 0.99)) if spreads.size else (1.0, 1.0)
    offsets = np.abs(_all(row.biases for _, table in runs for row in table))
    return Frame(
        width=width,
        last=max([1, *(run.history.taken - 1 for run, _ in runs)]),
        losses=scale_of(known, 30.0 + LOSSES, 30.0, log=log),
        spreads=(float(low) / 1.3, float(high) * 1.3),
        reach=max(float(np.quantile(offsets, 0.95)), 1e-12) if offsets.size else 1.0,
    )


def _all(some: Iterable[Bands | None]) -> Float[Any, " n"]:
    """Return all finite numbers of bands."""
    parts = [b.quantiles.ravel() for b in some if b is not None]
    values = np.concatenate(parts) if parts else np.zeros(0)
    return values[np.isfinite(values)]


def steps(frame: Frame, bottom: float) -> list[Markup]:
    """Return the numbers of the axis of steps."""
    axis = frame.steps
    ticks = [
        tag("text", word, class_="n mid", x=pixel(x), y=pixel(bottom + 16))
        for x, word in axis.ticks(max(2, int(frame.width / 120)))
    ]
    at = pixel(LEFT - 8)
    return [*ticks, tag("text", "step", class_="end muted", x=at, y=pixel(bottom + 16))]
