"""Curves over the steps of a run as SVG: scales, thinning to pixels, paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

from plumbob.report.words import figure


def tag(name: str, /, *inside: str, **attributes: object) -> Markup:
    """Return an element; what is not markup is escaped.

    `class_` is written as class, `text_anchor` as text-anchor.
    """
    words = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
    )
    if not inside:
        return Markup("<{}{}/>").format(name, words)
    return Markup("<{0}{1}>{2}</{0}>").format(name, words, Markup("").join(inside))


def pixel(value: float | int) -> str:
    """Return a coordinate with one decimal at most."""
    return f"{round(value, 1) + 0.0:g}"  # + 0.0: no minus zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values to pixels; what lies outside is drawn at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: Any) -> Float[Any, " n"]:
        """Return where many values are drawn; NaN for what is not finite."""
        at = np.asarray(values, float)
        with np.errstate(all="ignore"):
            at = np.where(np.isfinite(at), at, np.nan)
            low, high = self.low, self.high
            if self.log:
                at, low, high = np.log(np.maximum(at, low)), np.log(low), np.log(high)
            share = (at - low) / ((high - low) or 1.0)
            return self.start + np.clip(share, 0, 1) * (self.end - self.start)

    def at(self, value: float | int) -> float:
        """Return where one finite value is drawn."""
        return float(self([value])[0])

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Return places and words of round values, at most so many."""
        if self.log:
            first, last = ceil(log10(self.low) - 1e-9), floor(log10(self.high) + 1e-9)
            by = max(1, ceil((last - first + 1) / most))
            values = [10.0**n for n in range(first, last + 1, by)]
            if len(values) < 2:
                values = [self.low, self.high]
        else:
            span = self.high - self.low
            by = 10.0 ** floor(log10(span / most)) if span > 0 else 1.0
            by *= next((m for m in (1, 2, 5) if span / (by * m) <= most), 10)
            first, last = ceil(self.low / by - 1e-9), floor(self.high / by + 1e-9)
            values = [n * by for n in range(first, last + 1)]
        return [(self.at(v), figure(float(f"{v:.6g}"))) for v in values]


def scale_of(
    values: Float[Any, " n"], start: float, end: float, *, log: bool = False
) -> Scale:
    """Return a scale that holds all finite values, with a little air."""
    # so that ratios of them, and their products with air, stay finite
    known = np.clip(values[np.isfinite(values)], -1e150, 1e150)
    if log:
        known = known[known > 1e-150]
    if not known.size:
        return Scale(low=0.0, high=1.0, start=start, end=end)
    low, high = float(known.min()), float(known.max())
    if log:
        air = (high / low) ** 0.04 if high > low else 1.5
        return Scale(low=low / air, high=high * air, start=start, end=end, log=True)
    air = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
    return Scale(low=low - air, high=high + air, start=start, end=end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thin:
    """A series with at most one entry per stretch: lowest, middle and highest value.

    `x` is the mean step of a stretch; all three are NaN where no value is finite.
    """

    x: Float[Any, " n"]
    low: Float[Any, " n"]
    middle: Float[Any, " n"]
    high: Float[Any, " n"]


def stretches(
    steps: Float[Any, " n"], last: int, most: int
) -> tuple[Int[Any, " n"], Int[Any, " kept"]]:
    """Return the stretch of 0..last each sorted step lies in, and where each begins."""
    which = np.minimum((steps * (most / (last + 1))).astype(np.int64), most - 1)
    return which, np.flatnonzero(np.diff(which, prepend=-1))


def thinned(steps: Any, values: Any, last: int, most: int) -> Thin:
    """Thin a series to `most` stretches of the steps 0..last, keeping its extremes."""
    steps, values = np.asarray(steps, float), np.asarray(values, float)
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    if not steps.size:
        return Thin(x=steps, low=values, middle=values, high=values)
    which, starts = stretches(steps, last, most)
    finite = np.isfinite(values)
    count = np.add.reduceat(finite.astype(np.int64), starts)
    low = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)
    ranked = values[np.lexsort((np.where(finite, values, np.inf), which))]
    middle = ranked[starts + np.maximum(count - 1, 0) // 2]
    size = np.diff(starts, append=len(steps))
    none = count == 0
    return Thin(
        x=np.add.reduceat(steps, starts) / size,
        low=np.where(none, np.nan, low),
        middle=np.where(none, np.nan, middle),
        high=np.where(none, np.nan, high),
    )


def line(xs: Float[Any, " n"], ys: Float[Any, " n"], *, fine: int = 1) -> str:
    """Return a path through points; it breaks where y is NaN."""
    return "".join(_move(xs[a:b], ys[a:b], fine) for a, b in _runs(np.isfinite(ys)))


def area(
    xs: Float[Any, " n"],
    low: Float[Any, " n"],
    high: Float[Any, " n"],
    *,
    fine: int = 1,
) -> str:
    """Return a closed path between two curves; it breaks where one is NaN."""
    parts = list[str]()
    for a, b in _runs(np.isfinite(low) & np.isfinite(high)):
        there = np.concatenate([xs[a:b], xs[a:b][::-1]])
        parts.append(
            _move(there, np.concatenate([low[a:b], high[a:b][::-1]]), fine) + "z"
        )
    return "".join(parts)


def widened(
    xs: Float[Any, " n"], table: Float[Any, "n ..."]
) -> tuple[Float[Any, " m"], Float[Any, "m ..."]]:
    """Return places and what is there; one alone as two, so that a band is seen."""
    if len(xs) != 1:
        return xs, table
    return np.array([xs[0] - 2, xs[0] + 2]), np.repeat(table, 2, axis=0)


def _runs(good: Any) -> list[tuple[int, int]]:
    """Return the stretches of true values as (start, end)."""
    edges = np.flatnonzero(np.diff(good.astype(np.int8), prepend=0, append=0))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _move(xs: Float[Any, " n"], ys: Float[Any, " n"], fine: int) -> str:
    """Return a path in relative moves, which are short, of rounded places."""
    # in whole units of 1 / fine pixels: rounding never adds up
    x, y = np.rint(xs * fine).astype(int), np.rint(ys * fine).astype(int)
    start = f"M{_short(int(x[0]), fine)} {_short(int(y[0]), fine)}"
    if len(x) == 1:
        return start + "h.5"
    moves = [
        f"{_short(dx, fine)}{' ' if dy >= 0 else ''}{_short(dy, fine)}"
        for dx, dy in zip(np.diff(x).tolist(), np.diff(y).tolist(), strict=True)
        if dx or dy
    ]
    if not moves:
        return start + "h.5"
    joined = moves[0] + "".join(m if m[0] == "-" else f" {m}" for m in moves[1:])
    return f"{start}l{joined}"


def _short(units: int, fine: int) -> str:
    text = f"{units / fine:g}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def described(
    body: Sequence[str],
    *,
    title: str,
    says: str,
    width: float,
    height: float,
    **more: str,
) -> Markup:
    """Return a picture that says in words what it shows."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", says),
        *body,
        viewBox=f"0 0 {pixel(width)} {pixel(height)}",
        **more,
    )
