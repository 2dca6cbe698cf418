"""The whole model in one picture: sites left to right, weights above, biases below.

Both lanes are in units that compare over sites. Weights: w sqrt(fan_in), so that 1 is
the size that keeps the variance of a standardised input. Biases: the effective bias in
spreads of z, beta / sd[z], where z was measured; else b / (sd of w sqrt(fan_in)), the
same for a standardised input.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from plumbob.report.words import MARK
from plumbob.types import Finding, Severity, Survey

_LANE = 70.0  # pixels from the zero line to a lane's edge
_LEFT = 8.0
_ROOM = 24.0  # pixels between sites from which their names are written, slanting
_NAMES = 90.0  # pixels below the lanes for names


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What one site shows in one lane: the whole range and its bulk."""

    low: float
    bulk_low: float
    bulk_high: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A drawn lane: SVG paths of ranges, bulks and arrows where they are cut."""

    name: str
    reach: float
    middle: float
    ranges: str
    bulks: str
    cuts: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A finding at a place: its severity and the number of its entry."""

    x: float
    y: float
    entry: int
    severity: str
    mark: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The picture: two lanes and the findings above them."""

    width: float
    height: float
    lanes: tuple[Lane, ...]
    dots: tuple[Dot, ...]
    names: tuple[
        tuple[float, str], ...
    ]  # place and name of each site, if there is room


def strip(
    survey: Survey, rows: list[dict[str, Any]], findings: Iterable[Finding]
) -> Strip | None:
    """Draw a survey; None where there is no site."""
    if not rows:
        return None
    step = min(90.0, max(2.0, 900.0 / len(rows)))
    places = [_LEFT + step * (i + 0.5) for i in range(len(rows))]
    weights = [_weights(row) for row in rows]
    biases = [_biases(row, survey) for row in rows]
    top = 58.0  # room for three marks and the lane's name
    lanes = (
        _lane("weights", weights, places, top + _LANE),
        _lane("biases", biases, places, top + 3 * _LANE + 24),
    )
    names = [row["site"] for row in rows] if step >= _ROOM else []
    bottom = top + 4 * _LANE + 34
    return Strip(
        width=max(2 * _LEFT + step * len(rows), 240.0),
        height=bottom + (_NAMES if names else 0),
        names=tuple((x, _short(n)) for x, n in zip(places, names, strict=False)),
        lanes=lanes,
        dots=tuple(_dots(survey, places, findings)),
    )


def _short(name: str) -> str:
    return name if len(name) <= 18 else "…" + name[-17:]


def _weights(row: dict[str, Any]) -> Band | None:
    if row["weight_sd"] is None:
        return None
    mean, sd = row["weight_mean"], row["weight_sd"]
    low, high = row["weight_low"], row["weight_high"]
    # a row of a table is looked up, not summed over
    scale = 1.0 if row["kind"] == "embedding" else sqrt(row["fan_in"])
    return Band(
        low=low * scale,
        bulk_low=max(mean - sd, low) * scale,
        bulk_high=min(mean + sd, high) * scale,
        high=high * scale,
    )


def _biases(row: dict[str, Any], survey: Survey) -> Band | None:
    reading = survey.readings.get(row["site"])
    if reading is not None and reading.z is not None:
        sd = reading.z.sd
        live = np.isfinite(sd) & (sd > 0)
        if live.any():
            offset = reading.z.mean[live] / sd[live]
            low, q1, q3, high = np.quantile(offset, (0, 0.25, 0.75, 1)).tolist()
            return Band(low=low, bulk_low=q1, bulk_high=q3, high=high)
    scale = (row["weight_sd"] or 0.0) * sqrt(row["fan_in"])
    if row["bias_sd"] is None or not scale:
        return None
    mean, sd = row["bias_mean"], row["bias_sd"]
    low, high = row["bias_low"], row["bias_high"]
    return Band(
        low=low / scale,
        bulk_low=max(mean - sd, low) / scale,
        bulk_high=min(mean + sd, high) / scale,
        high=high / scale,
    )


def _lane(
    name: str, bands: list[Band | None], places: list[float], middle: float
) -> Lane:
    far = [max(abs(b.low), abs(b.high)) for b in bands if b is not None]
    # One wild site must not flatten all others: what is cut off gets an arrow.
    reach = max(float(np.quantile(far, 0.9)), 1e-12) if far else 1.0
    ranges, bulks, cuts = list[str](), list[str](), list[str]()

    def height(value: float) -> float:
        return middle - _LANE * min(max(value / reach, -1.0), 1.0)

    for x, band in zip(places, bands, strict=True):
        if band is None:
            continue
        ranges.append(f"M{x:.1f} {height(band.low):.1f}V{height(band.high):.1f}")
        low, high = height(band.bulk_low), height(band.bulk_high)
        if low - high < 2:  # a bulk of no height is still a mark
            low, high = (low + high) / 2 + 1, (low + high) / 2 - 1
        bulks.append(f"M{x:.1f} {low:.1f}V{high:.1f}")
        if band.high > reach:
            cuts.append(f"M{x - 3:.1f} {middle - _LANE:.1f}l3-5 3 5z")
        if band.low < -reach:
            cuts.append(f"M{x - 3:.1f} {middle + _LANE:.1f}l3 5 3-5z")
    return Lane(
        name=name,
        reach=reach,
        middle=middle,
        ranges="".join(ranges),
        bulks="".join(bulks),
        cuts="".join(cuts),
    )


def _dots(
    survey: Survey, places: list[float], findings: Iterable[Finding]
) -> Iterable[Dot]:
    place = dict[str, float]()
    for site, x in zip(survey.sites, places, strict=True):
        for name in (site.name, site.weight, site.bias):
            if name:
                place.setdefault(name, x)
    stacked = dict[float, int]()
    for entry, finding in enumerate(findings, 1):
        if (x := place.get(finding.site or "")) is None:
            continue
        level = stacked[x] = stacked.get(x, 0) + 1
        severity = finding.severity or Severity.INFO
        yield Dot(
            x=x,
            y=34.0 - 12 * min(level - 1, 2),
            entry=entry,
            severity=severity.name.lower(),
            mark=MARK[severity],
            title=f"{finding.code} {finding.name} at {finding.site}",
        )
