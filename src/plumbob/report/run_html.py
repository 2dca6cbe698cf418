"""A run as one page of HTML that needs no network, and no script to be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from markupsafe import Markup

from plumbob.report.episodes import Entry, entries
from plumbob.report.loss_over_time import losses
from plumbob.report.model_over_time import model
from plumbob.report.over_time import Frame, Row, frame, rows
from plumbob.report.page import page
from plumbob.report.run_json import tree
from plumbob.report.run_text import spells
from plumbob.report.run_words import known, state, took, verdict, worst
from plumbob.report.site_over_time import lines
from plumbob.report.words import also, explained, together
from plumbob.types import Event, Finding, Run

WIDTH = 1100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a template needs of one run."""

    name: str
    verdict: str
    worst: str
    state: str
    took: str
    facts: dict[str, str]
    command: str
    seed: str
    entries: list[Entry]
    losses: Markup
    model: Markup | None
    not_judged: list[tuple[str, str]]
    crashed: dict[str, str]
    events: tuple[Event, ...]
    last: int


def render(run: Run, place: str = "") -> str:
    """Return the run as a page; `place` is what `plumbob view` finds it by."""
    table = rows(run)
    seen = view(run, table, frame([(run, table)], WIDTH))
    places = [e.finding.site or "" for entry in seen.entries for e in entry.all]
    drawn = lines(run, places)
    return told(
        "run.html.j2",
        {
            "view": seen,
            "place": quote(place or run.name),
            "lines": drawn,
            "left": len(run.sites) - len(drawn),
            "data": tree(run),
        },
    )


def told(template: str, given: Mapping[str, Any]) -> str:
    """Return a page made from a template, with what those of runs call."""
    return page(
        template,
        {"spells": spells, "also": _also, "explained": _explained, **given},
    )


def view(run: Run, table: Sequence[Row], axes: Frame, name: str = "") -> View:
    """Return what a template needs of a run drawn on axes; `name` marks its links."""
    found = entries(run)
    about = known(run)
    return View(
        name=run.name,
        verdict=verdict(run),
        worst=worst(run),
        state=state(run),
        took=took(run),
        facts=about,
        command=str(run.about.get("command", "")),
        seed=str(run.about.get("seed", "")),
        entries=found,
        losses=losses(run, found, axes, name),
        model=model(table, found, axes, name),
        not_judged=[*together(run.not_judged)],
        crashed=dict(run.crashed),
        events=tuple(e for e in run.events if e.kind != "end"),
        last=max(run.history.taken - 1, 0),
    )


def _also(entry: Entry) -> str:
    return also(entry.first.finding, [e.finding for e in entry.others])


def _explained(entry: Entry) -> list[tuple[Finding, list[Finding]]]:
    return [*explained(e.finding for e in entry.all)]
