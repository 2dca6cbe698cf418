"""The whole model over the steps of a run: a row per site, two lanes each."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from plumbob.report.bands import Bands
from plumbob.report.curves import (
    Scale,
    area,
    described,
    line,
    pixel,
    tag,
    widened,
)
from plumbob.report.episodes import Entry
from plumbob.report.over_time import LEFT, RIGHT, Frame, Row, steps
from plumbob.report.words import MARK, figure

_GAP = 8.0  # pixels between rows


def model(
    table: Sequence[Row], found: Sequence[Entry], frame: Frame, name: str = ""
) -> Markup | None:
    """Draw the rows over time, with a mark where something was found.

    Returns:
        The picture; None where there is no row.
    """
    if not table:
        return None
    lane = 32.0 if len(table) <= 10 else 14.0 if len(table) <= 24 else 11.0
    body, top = list[Markup](), 24.0
    tops = list[float]()
    for row in table:
        tops.append(top)
        body += _lanes(row, top, lane, frame)
        top += 2 * lane + _GAP
    body += _marks(table, tops, lane, found, frame, name)
    low, high = (figure(float(f"{v:.2g}")) for v in frame.spreads)
    right = pixel(frame.width - RIGHT)
    reach = figure(float(f"{frame.reach:.2g}"))
    body += [
        tag(
            "text",
            f"weights: sd[z], {low} to {high}, log",
            class_="weights",
            x=LEFT,
            y=12,
        ),
        tag(
            "text",
            f"biases: beta / sd[z], \N{PLUS-MINUS SIGN}{reach}",
            class_="biases end",
            x=right,
            y=12,
        ),
        *steps(frame, top),
    ]
    return described(
        body,
        title="Weights and biases of every site over the steps of the run",
        says=f"{sum(len(r.sites) for r in table)} sites in {len(table)} rows",
        width=frame.width,
        height=top + 24,
        role="group",
        class_="chart",
    )


def _lanes(row: Row, top: float, lane: float, frame: Frame) -> list[Markup]:
    first, *others = (site.name for site in row.sites)
    label, names = _short(first), first
    if others:
        label, names = f"{label} +{len(others)}", f"{first} to {others[-1]}"
    right = pixel(frame.width - RIGHT)
    low, high = frame.spreads
    spreads = Scale(low=low, high=high, start=top + lane, end=top, log=True)
    offsets = Scale(
        low=-frame.reach, high=frame.reach, start=top + 2 * lane, end=top + lane
    )
    middle = pixel(offsets.at(0))
    return [
        tag(
            "text",
            tag("title", names),
            label,
            class_="end",
            x=LEFT - 12,
            y=pixel(top + lane + 4),
        ),
        tag("path", class_="zero", d=f"M{pixel(LEFT)} {middle}H{right}"),
        *_lane("weights", row.weights, spreads, frame, implied=row.implied),
        *_lane("biases", row.biases, offsets, frame, implied=row.implied),
    ]


def _lane(
    name: str, found: Bands | None, scale: Scale, frame: Frame, *, implied: bool
) -> list[Markup]:
    if found is None or not len(found.x):
        return []
    xs, table = widened(frame.steps(found.x), found.quantiles)
    q05, q25, q50, q75, q95 = (scale(column) for column in table.T)
    body = [
        tag("path", class_="range", d=area(xs, q05, q95)),
        tag("path", class_="bulk", d=area(xs, q25, q75)),
        tag(
            "path", class_="mid implied" if implied else "mid", d=line(xs, q50, fine=10)
        ),
    ]
    cuts = list[str]()  # an arrow where most of a site's units lie outside its lane
    above, below = (
        np.flatnonzero(table[:, 2] > scale.high),
        np.flatnonzero(table[:, 2] < scale.low),
    )
    if len(above):
        cuts.append(f"M{pixel(xs[above[0]] - 3)} {pixel(scale.end + 5)}l3-5 3 5z")
    if len(below):
        cuts.append(f"M{pixel(xs[below[0]] - 3)} {pixel(scale.start - 5)}l3 5 3-5z")
    if cuts:
        body.append(tag("path", class_="cut", d="".join(cuts)))
    return [tag("g", *body, class_=name)]


def _marks(
    table: Sequence[Row],
    tops: Sequence[float],
    lane: float,
    found: Sequence[Entry],
    frame: Frame,
    name: str,
) -> list[Markup]:
    """Return a mark for each finding at the row of its site and the step it came."""
    place = dict[str, float]()
    for row, top in zip(table, tops, strict=True):
        for site in row.sites:
            for word in filter(None, (site.name, site.weight, site.bias)):
                place.setdefault(word, top + lane)
    taken = set[tuple[int, float]]()
    body = list[Markup]()
    for entry in found:
        for one in entry.all:
            y = place.get(one.finding.site or "")
            if y is None:
                continue
            x = frame.steps.at(one.found)
            while (
                round(x / 13),
                y,
            ) in taken:  # what is found at once stands side by side
                x += 13
            if x > frame.width - 4:
                continue
            taken.add((round(x / 13), y))
            says = f"{one.finding.code} {one.finding.name} at {one.finding.site}"
            body.append(
                tag(
                    "a",
                    tag("circle", cx=pixel(x), cy=pixel(y), r="6.5"),
                    tag(
                        "text",
                        MARK[one.severity],
                        x=pixel(x),
                        y=pixel(y + 4),
                        class_="mark mid",
                    ),
                    href=f"#{name}f{entry.number}",
                    aria_label=f"{says}, step {one.found}",
                    class_=one.severity.name.lower(),
                )
            )
    return body


def _short(name: str) -> str:
    return name if len(name) <= 19 else "…" + name[-18:]
