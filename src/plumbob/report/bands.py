"""What the units of sites did over the steps of a run: quantiles over units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.report.curves import stretches
from plumbob.types import Course, History, Moments, Site, Window

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
Of = Callable[[Moments], Float[Any, " units"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """Quantiles over units at a few steps, one row per step; NaN: no finite unit."""

    x: Float[Any, " n"]
    quantiles: Float[Any, "n 5"]


def seen(site: Site, history: History) -> Sequence[Window]:
    """Return what was seen of a site's units; none where that is the first step alone.

    What the first trace shows to be idle, such as a norm that no activation follows, is
    not measured from then on; how it began is not where it ended.
    """
    windows, steps = history.windows.get(site.name, ()), history.steps
    first = len(windows) == 1 and len(steps) > 1 and windows[0].last == steps[0]
    return () if first else windows


def merged(windows: Sequence[Window], last: int, most: int) -> list[Window]:
    """Return windows with those of one stretch of the steps merged."""
    if not windows:
        return []
    middles = np.array([(w.first + w.last) / 2 for w in windows])
    which, starts = stretches(middles, last, most)
    parts = np.split(np.arange(len(which)), starts[1:])
    with np.errstate(all="ignore"):  # a broken run's values are what they are
        return [reduce(add, (windows[i] for i in part)) for part in parts]


def bands(rows: Sequence[Sequence[Window]], of: Of) -> Bands:
    """Return the quantiles of what `of` makes of units, those of all rows together."""
    at: dict[float, list[Float[Any, " units"]]] = {}
    for row in rows:
        for window in row:
            values = of(window.z)
            known = values[np.isfinite(values)]
            at.setdefault((window.first + window.last) / 2, []).append(known)
    x = np.array(sorted(at), float)
    found = np.full((len(x), len(QUANTILES)), np.nan)
    for i, step in enumerate(x.tolist()):
        values = np.concatenate(at[step])
        if values.size:
            found[i] = np.quantile(values, QUANTILES)
    if len(x) > 1:  # the ends of the axis belong to the windows there
        x[0] = min(row[0].first for row in rows if row)
        x[-1] = max(row[-1].last for row in rows if row)
    return Bands(x=x, quantiles=found)


def beta(z: Moments) -> Float[Any, " units"]:
    """Return the effective bias E[z] of each unit, NaN where nothing was counted."""
    return np.where(z.count > 0, z.mean, np.nan)


def spread(z: Moments) -> Float[Any, " units"]:
    """Return sd[z] of each unit, NaN where nothing was counted."""
    return np.where(z.count > 0, z.sd, np.nan)


def offset(z: Moments) -> Float[Any, " units"]:
    """Return beta / sd[z] of each unit, NaN where it does not vary."""
    sd = z.sd
    with np.errstate(all="ignore"):
        return np.where((z.count > 0) & (sd > 0), z.mean / sd, np.nan)


def firing(z: Moments) -> Float[Any, " units"]:
    """Return the share of inputs with z > 0 of each unit."""
    return np.where(z.count > 0, z.positive / np.maximum(z.count, 1), np.nan)


def ratio(course: Course) -> Float[Any, " logs"]:
    """Return |dw| / |w| of each measured step; NaN where there was no w to change."""
    with np.errstate(all="ignore"):
        return np.where(course.size > 0, course.change / course.size, np.nan)


def implied(site: Site, history: History) -> tuple[Any, Any]:
    """Return what W alone says: sd[z] and |b| / sd[z] for a standardised input.

    That is rms(w) sqrt(fan_in), and rms(b) over it, at each of `history.steps`; None
    where the parameter was not measured.
    """
    weight = history.courses.get(site.weight)
    if weight is None or not weight.numel:
        return None, None
    scale = 1.0 if site.kind == "embedding" else np.sqrt(site.fan_in)
    with np.errstate(all="ignore"):
        sd = weight.size / np.sqrt(weight.numel) * scale
        bias = history.courses.get(site.bias or "")
        if bias is None or not bias.numel:
            return sd, None
        return sd, np.where(sd > 0, bias.size / np.sqrt(bias.numel) / sd, np.nan)
