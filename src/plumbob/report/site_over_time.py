"""One site over the steps of a run: four small curves and where they ended."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from plumbob.report.bands import (
    Bands,
    bands,
    beta,
    firing,
    implied,
    merged,
    ratio,
    seen,
    spread,
)
from plumbob.report.curves import (
    Scale,
    area,
    line,
    scale_of,
    tag,
    thinned,
    widened,
)
from plumbob.report.words import figure
from plumbob.types import History, Run, Site

MOST = 300  # sites that are told of
DRAWN = 200  # sites whose curves are drawn whatever they take; of more only so much
ROOM = 90_000
_WIDE, _HIGH = 200.0, 52.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLine:
    """One site: its numbers at the end, and its curves.

    `beta`, `sd` and `firing` are medians over units in the last window, `update` the
    median of |dw| / |w| over the last quarter of the steps; None: not measured.
    """

    site: Site
    beta: float | None
    sd: float | None
    firing: float | None
    update: float | None
    picture: Markup | None = None


def lines(run: Run, found: Collection[str]) -> list[SiteLine]:
    """Return the sites of a run, in order; at most `MOST` of them.

    Where not all curves have room those of the sites with findings, and of those whose
    units moved the most, are drawn.

    Args:
        run: the run.
        found: sites and parameters at which something was found.
    """
    said = {s.name for s in run.sites if {s.name, s.weight, s.bias} & {*found}}
    by_need = sorted(
        run.sites, key=lambda s: (s.name not in said, -_moved(s, run.history))
    )
    kept = {site.name for site in by_need[:MOST]}
    count = max(8, min(60, 1200 // max(len(kept), 1)))
    drawn = dict[str, Markup | None]()
    room = ROOM if len(run.sites) > DRAWN else inf
    for site in by_need[:MOST]:
        if room > 0:
            made = _picture(site, run.history, count, bulk=len(kept) <= 60)
            drawn[site.name] = made
            room -= len(made or "")
    return [
        replace(numbers(site, run.history), picture=drawn.get(site.name))
        for site in run.sites
        if site.name in kept
    ]


def _moved(site: Site, history: History) -> float:
    """Return by how many spreads the units of a site moved, the median over units."""
    windows = seen(site, history)
    if len(windows) < 2:
        return 0.0
    first, last = windows[0].z, windows[-1].z
    with np.errstate(all="ignore"):
        values = np.abs(last.mean - first.mean) / last.sd
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else 0.0


def numbers(site: Site, history: History) -> SiteLine:
    """Return the numbers of a site at the end of a run."""
    windows = seen(site, history)
    last = bands([windows[-1:]], beta), bands([windows[-1:]], spread)
    ends = [_middle(b) for b in (*last, bands([windows[-1:]], firing))]
    course = history.courses.get(site.weight)
    update = None
    if course is not None:
        values = ratio(course)
        known = values[-max(len(values) // 4, 1) :]
        known = known[np.isfinite(known)]
        update = float(np.median(known)) if known.size else None
    return SiteLine(site=site, beta=ends[0], sd=ends[1], firing=ends[2], update=update)


def _middle(found: Bands) -> float | None:
    value = float(found.quantiles[-1, 2]) if len(found.x) else np.nan
    return value if np.isfinite(value) else None


def _picture(site: Site, history: History, count: int, *, bulk: bool) -> Markup | None:
    last = max(history.taken - 1, 1)
    windows = merged(seen(site, history), last, count)
    panels = list[Markup]()
    if windows:
        panels += [
            _bands("b", "beta", bands([windows], beta), last, bulk=bulk),
            _bands("w", "sd[z]", bands([windows], spread), last, bulk=bulk),
            _bands("", "fires", bands([windows], firing), last, bulk=bulk),
        ]
    else:
        sd, b = implied(site, history)
        if b is not None:
            panels.append(_lines("|b| / sd", [("b", b)], history, count))
        if sd is not None:
            panels.append(_lines("rms(w)·√in", [("w", sd)], history, count))
    updates = [
        (role, ratio(history.courses[name]))
        for role, name in (("w", site.weight), ("b", site.bias or ""))
        if name in history.courses
    ]
    if updates:
        panels.append(_lines("|Δ|/|·|", updates, history, count, log=True))
    if not panels:
        return None
    title = tag("title", f"{site.name} over the steps")
    return tag("svg", title, *panels, viewBox="0 0 420 160", role="img", class_="p")


def _bands(role: str, name: str, found: Bands, last: int, *, bulk: bool) -> Markup:
    xs, table = widened(_steps(last)(found.x), found.quantiles)
    scale = _scale(table)
    q05, q25, q50, q75, q95 = (scale(column) for column in table.T)
    paths = [("r", area(xs, q05, q95)), ("m", line(xs, q50))]
    if bulk:
        paths.insert(1, ("k", area(xs, q25, q75)))
    return _panel(role, name, scale, table, paths)


def _lines(
    name: str,
    series: Sequence[tuple[str, Float[np.ndarray, " logs"]]],
    history: History,
    count: int,
    *,
    log: bool = False,
) -> Markup:
    last = max(history.taken - 1, 1)
    thin = [(role, thinned(history.steps, v, last, count)) for role, v in series]
    table = np.concatenate([t.middle for _, t in thin])
    scale = _scale(table, log=log)
    paths = [
        (f"m {role}", line(*widened(_steps(last)(t.x), scale(t.middle))))
        for role, t in thin
    ]
    return _panel("", name, scale, table, paths)


def _scale(values: Float[np.ndarray, "..."], *, log: bool = False) -> Scale:
    return scale_of(values.ravel(), 6.0 + _HIGH, 6.0, log=log)


def _steps(last: int) -> Scale:
    return Scale(low=0.0, high=float(last), start=0.0, end=_WIDE)


def _panel(
    role: str,
    name: str,
    scale: Scale,
    values: Float[np.ndarray, "..."],
    paths: Sequence[tuple[str, str]],
) -> Markup:
    known = values[np.isfinite(values)]
    if known.size:
        low, high = (
            figure(float(f"{known.min():.3g}")),
            figure(float(f"{known.max():.3g}")),
        )
        words = f"{name} {low} to {high}" if low != high else f"{name} {low}"
    else:
        words = f"{name} is not finite"
    drawn = [tag("path", class_=kind, d=d) for kind, d in paths if d]
    zero = []
    if not scale.log and scale.low < 0 < scale.high:
        zero = [tag("path", class_="zero", d=f"M0 {scale.at(0):.0f}h200")]
    named = {"class_": role} if role else {}
    return tag("g", *zero, *drawn, tag("text", words), **named)
