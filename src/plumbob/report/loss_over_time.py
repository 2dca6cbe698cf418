"""The losses of a run over its steps, and beneath them when each finding held."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from plumbob.report.curves import area, described, line, pixel, tag, thinned
from plumbob.report.episodes import Entry
from plumbob.report.over_time import LEFT, RIGHT, Frame, steps
from plumbob.report.words import figure
from plumbob.types import Losses, Run

_BARS = 14  # findings that are drawn
_BAR = 22.0  # height of one
_DASHES = ("none", "7 3", "2 3", "9 3 2 3")


def losses(run: Run, found: Sequence[Entry], frame: Frame, name: str = "") -> Markup:
    """Draw the losses, and beneath them from when to when each finding held."""
    top, bottom = frame.losses.end, frame.losses.start
    shown = found[:_BARS]
    below = bottom + 44
    height = below + _BAR * len(shown) + (22 if len(found) > _BARS else 4)
    body = [
        *_grid(frame, top, bottom),
        *_levels(run, frame),
        *_series(run, frame),
        *_bars(run, shown, frame, below, name),
    ]
    if more := len(found) - len(shown):
        text = f"and {more} more in the table of findings"
        body.append(tag("text", text, x=LEFT, y=pixel(height - 6), class_="muted"))
    return described(
        body,
        title=f"Losses and findings of {run.name or 'the run'} over its steps",
        says=_says(run, found),
        width=frame.width,
        height=height,
        role="group",
        class_="chart",
    )


def _says(run: Run, found: Sequence[Entry]) -> str:
    parts = list[str]()
    for name, series in run.history.losses.items():
        known = series.values[np.isfinite(series.values)]
        if known.size:
            ends = f"from {figure(float(known[0]))} to {figure(float(known[-1]))}"
            parts.append(f"{name} {ends}")
    for entry in found[:_BARS]:
        parts.append(f"{entry.first.finding.code} found at step {entry.found}")
    return f"{run.history.taken} steps; " + ("; ".join(parts) or "no loss is known")


def _grid(frame: Frame, top: float, bottom: float) -> list[Markup]:
    right = frame.width - RIGHT
    body = [
        tag("path", class_="axis", d=f"M{pixel(LEFT)} {pixel(bottom)}H{pixel(right)}")
    ]
    for y, word in frame.losses.ticks(5):
        body += [
            tag("path", class_="grid", d=f"M{pixel(LEFT)} {pixel(y)}H{pixel(right)}"),
            tag("text", word, class_="n end", x=pixel(LEFT - 8), y=pixel(y + 4)),
        ]
    return [*body, *steps(frame, bottom)]


def _levels(run: Run, frame: Frame) -> list[Markup]:
    """Return lines at the losses that say how much has been learnt."""
    body = list[Markup]()
    levels = {
        "best constant output": run.history.constant,
        "lowest possible": run.history.floor,
    }
    right = pixel(frame.width - RIGHT)
    for word, value in levels.items():
        if value is None or not frame.losses.low <= value <= frame.losses.high:
            continue
        y = frame.losses.at(value)
        body += [
            tag("path", class_="level", d=f"M{pixel(LEFT)} {pixel(y)}H{right}"),
            tag("text", word, class_="end muted", x=right, y=pixel(y - 4)),
        ]
    return body


def _series(run: Run, frame: Frame) -> list[Markup]:
    """Return the curves of all losses, with their names above."""
    body, x = list[Markup](), LEFT
    shown = [
        ("loss", name, one, _DASHES[i % len(_DASHES)])
        for i, (name, one) in enumerate(run.history.losses.items())
    ]
    if run.history.held is not None:
        shown.append(("held", "validation", run.history.held, "none"))
    broken = 0
    for kind, name, one, dash in shown:
        body += _curve(kind, one, dash, frame)
        if not np.isfinite(one.values).all():
            body.append(_broken(name, one, frame, frame.losses.end + 10 + 14 * broken))
            broken += 1
        body += [
            tag("path", class_=kind, stroke_dasharray=dash, d=f"M{pixel(x)} 12h22"),
            tag("text", name, x=pixel(x + 28), y=16),
        ]
        x += 48 + 7.0 * len(name)
    word = "no loss is known" if not shown else "log scale" if frame.losses.log else ""
    at = pixel(frame.width - RIGHT)
    return [*body, tag("text", word, class_="end muted", x=at, y=16)]


def _curve(kind: str, one: Losses, dash: str, frame: Frame) -> list[Markup]:
    """Return one curve: its range and its middle."""
    most = int((frame.width - LEFT - RIGHT) / 2)
    thin = thinned(one.steps, one.values, frame.last, most)
    xs, ys = frame.steps(thin.x), frame.losses(thin.middle)
    body = [tag("path", class_=kind, stroke_dasharray=dash, d=line(xs, ys))]
    if len(one.steps) > len(thin.x):
        spread = area(xs, frame.losses(thin.low), frame.losses(thin.high))
        body.insert(0, tag("path", class_=f"{kind} range", d=spread))
    if kind == "held" and len(xs) <= 60:
        dots = "".join(
            f"M{pixel(x - 2.5)} {pixel(y)}a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0z"
            for x, y in zip(xs, ys, strict=True)
            if np.isfinite(y)
        )
        body.append(tag("path", class_="held dots", d=dots))
    return body


def _broken(name: str, one: Losses, frame: Frame, y: float) -> Markup:
    """Return in words from which step on a curve is not finite."""
    first = int(one.steps[~np.isfinite(one.values)][0])
    at = frame.steps.at(float(first))
    return tag(
        "text",
        f"x {name} not finite from step {figure(first)}",
        class_="error end" if at > frame.width / 2 else "error",
        x=pixel(at),
        y=pixel(y),
    )


def _bars(
    run: Run, found: Sequence[Entry], frame: Frame, top: float, name: str
) -> list[Markup]:
    body = list[Markup]()
    end = frame.steps.at(max(run.history.taken - 1, 0))
    for i, entry in enumerate(found):
        y = top + _BAR * i
        first = frame.steps.at(entry.found)
        gone = end if entry.gone is None else frame.steps.at(entry.gone)
        spells = [
            (frame.steps.at(a), end if b is None else frame.steps.at(b))
            for one in entry.all
            for a, b in one.spells
        ]
        bars = "".join(
            f"M{pixel(a)} {pixel(y)}H{pixel(max(b, a + 2))}" for a, b in spells
        )
        bars += f"M{pixel(first)} {pixel(y - 4)}v8"
        if entry.gone is not None:
            bars += f"M{pixel(gone)} {pixel(y - 4)}v8"
        finding = entry.first.finding
        right = first > LEFT + (frame.width - LEFT) * 0.55
        says = f"{finding.name} at step {figure(entry.found)}"
        if entry.gone is not None:
            says += f", gone at {figure(entry.gone)}"
        words = tag(
            "text",
            says,
            class_="end" if right else "",
            x=pixel(max(gone, first) if right else first + 5),
            y=pixel(y - 5),
        )
        head = tag(
            "text",
            f"{entry.mark} {finding.code}",
            class_=f"end mark {entry.word}",
            x=pixel(LEFT - 8),
            y=pixel(y + 2),
        )
        body.append(
            tag(
                "a",
                tag(  # the whole row is the link
                    "rect",
                    x=0,
                    y=pixel(y - _BAR + 6),
                    width=pixel(frame.width),
                    height=pixel(_BAR),
                    fill="transparent",
                ),
                tag("path", class_=f"bar {entry.word}", d=bars),
                head,
                words,
                href=f"#{name}f{entry.number}",
            )
        )
    return body
