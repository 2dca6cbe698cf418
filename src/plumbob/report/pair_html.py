"""Two runs side by side on the same axes: what differs in settings and in findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import join
from typing import Any

import numpy as np

from plumbob.report.episodes import Episode, episodes, key
from plumbob.report.over_time import frame, rows
from plumbob.report.run_html import told, view
from plumbob.report.run_json import tree
from plumbob.report.run_text import spells
from plumbob.report.run_words import known, state, verdict
from plumbob.report.site_over_time import numbers
from plumbob.report.words import MARK, figure
from plumbob.types import Finding, Losses, Run

WIDTH = 760.0
SITES = 40  # those that differ the most
_OWN = ("started", "host", "process")  # differ always, and mean nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """A finding, and when each of two runs had it; "" where it did not."""

    finding: Finding
    mark: str
    word: str
    one: str
    two: str

    @property
    def differs(self) -> str:
        """Which run has it."""
        if self.one and self.two:
            return "in both"
        return "in the first only" if self.one else "in the second only"


def render(one: Run, two: Run, places: Sequence[str] = ()) -> str:
    """Return two runs as a page; `places` are what `plumbob view` finds them by."""
    names = _names(one, two)
    tables = rows(one), rows(two)
    axes = frame([(one, tables[0]), (two, tables[1])], WIDTH)
    return told(
        "pair.html.j2",
        {
            "views": [
                view(one, tables[0], axes, "a-"),
                view(two, tables[1], axes, "b-"),
            ],
            "names": names,
            "place": join(places or [one.name, two.name]),
            "settings": settings(one, two),
            "both": both(one, two),
            "sites": _sites(one, two),
            "data": [tree(one), tree(two)],
        },
    )


def text(one: Run, two: Run) -> str:
    """Return what differs between two runs as plain text."""
    first, second = _names(one, two)
    lines = [
        f"{name}: {state(run)}. {verdict(run)}"
        for name, run in ((first, one), (second, two))
    ]
    for name, (a, b) in settings(one, two).items():
        lines.append(f"{name}: {a or 'none'} | {b or 'none'}")
    for row in both(one, two):
        f = row.finding
        where = f"{f.code} {f.name}  {f.site or '(model)'}  {row.mark}"
        lines.append(f"{where}: {row.one or 'not found'} | {row.two or 'not found'}")
    return "\n".join(lines)


def _names(one: Run, two: Run) -> tuple[str, str]:
    if one.name != two.name:
        return one.name, two.name
    return f"{one.name} (first)", f"{two.name} (second)"


def settings(one: Run, two: Run) -> dict[str, tuple[str, str]]:
    """Return what is set or known of two runs and differs, by its name."""
    known = [_set(run) for run in (one, two)]
    return {
        name: (known[0].get(name, ""), known[1].get(name, ""))
        for name in {**known[0], **known[1]}
        if known[0].get(name) != known[1].get(name)
    }


def _set(run: Run) -> dict[str, str]:
    history = run.history
    own = {k: v for k, v in known(run).items() if k not in _OWN}
    courses = [*history.courses.values()]
    rates = [_ends(c.lr) for c in courses]
    decays = sorted({figure(float(c.decay[-1])) for c in courses if len(c.decay)})
    names = {site.name for site in run.sites}
    more = {
        "learning rate": ", ".join(sorted({r for r in rates if r})),
        "weight decay": ", ".join(decays),
        "inputs a step": figure(history.samples) if history.samples else "",
        "steps": figure(history.taken),
        "sites": figure(len(names)),
        "first loss": _end(history.loss, 0),
        "last loss": _end(history.loss, -1),
        "last validation loss": _end(history.held, -1),
        "not judged": ", ".join(sorted(run.not_judged)),
    }
    return own | {name: value for name, value in more.items() if value}


def _ends(values: Any) -> str:
    known = values[np.isfinite(values)]
    if not known.size:
        return ""
    first, last = figure(float(known[0])), figure(float(known[-1]))
    return first if first == last else f"{first} to {last}"


def _end(losses: Losses | None, which: int) -> str:
    if losses is None or not len(losses.values):
        return ""
    return figure(float(losses.values[which]))


def both(one: Run, two: Run) -> list[Both]:
    """Return all findings of two runs, those of one alone first, worst first."""
    found = [{key(e.finding): e for e in episodes(run)} for run in (one, two)]
    table = list[Both]()
    for which in {**found[0], **found[1]}:
        a, b = found[0].get(which), found[1].get(which)
        episode = a or found[1][which]
        table.append(
            Both(
                finding=episode.finding,
                mark=f"{MARK[episode.severity]} {episode.severity.name.lower()}",
                word=episode.severity.name.lower(),
                one=_when(a),
                two=_when(b),
            )
        )
    return sorted(
        table,
        key=lambda row: (row.differs == "in both", -(row.finding.severity or 0)),
    )


def _when(episode: Episode | None) -> str:
    return spells(episode.spells) if episode else ""


def _sites(one: Run, two: Run) -> list[Mapping[str, Any]]:
    """Return where the same sites ended in two runs, the farthest apart first."""
    ends = [
        {site.name: numbers(site, run.history) for site in run.sites}
        for run in (one, two)
    ]
    table = list[tuple[float, Mapping[str, Any]]]()
    for name, a in ends[0].items():
        b = ends[1].get(name)
        if b is None:
            continue
        apart = 0.0
        if a.beta is not None and b.beta is not None and a.sd and b.sd:
            apart = abs(a.beta - b.beta) / min(a.sd, b.sd) + abs(np.log(a.sd / b.sd))
        elif a.update and b.update:
            apart = float(abs(np.log(a.update / b.update)))
        table.append((apart, {"name": name, "one": a, "two": b}))
    return [row for _, row in sorted(table, key=lambda t: -t[0])[:SITES]]
