"""A run for a terminal: how it stands, what was found at which step, what to do."""

from collections.abc import Iterator
from textwrap import wrap

from plumbob.report.episodes import Entry, entries
from plumbob.report.run_words import known, state, took, verdict
from plumbob.report.words import also, evidence, explained, places, safety, together
from plumbob.types import Run


def render(run: Run, width: int = 80) -> str:
    """Return the run as plain text of at most `width` columns where words allow."""
    return "\n".join(_lines(run, width))


def _lines(run: Run, width: int) -> Iterator[str]:
    yield from wrap(f"{run.name}: {state(run)}; {took(run)}", width)
    told = " · ".join(f"{name} {value}" for name, value in known(run).items())
    yield from wrap(told, width)
    for name, one in run.history.losses.items():
        if len(one.values):
            yield f"{name}: {one.values[0]:.4g} at first, {one.values[-1]:.4g} at last"
    for entry in entries(run):
        yield ""
        yield from _entry(entry, width)
    if run.not_judged:
        yield "\nnot judged:"
        for names, reason in together(run.not_judged):
            yield from _block(f"{names}: {reason}", width)
    for code, error in run.crashed.items():
        yield from _block(f"{code} crashed: {error}", width)
    if events := [e for e in run.events if e.kind != "end"]:
        yield "\nwhat else happened:"
        for event in events:
            yield from _block(f"step {event.step}: {event.kind}: {event.text}", width)
    yield f"\n{verdict(run)}"


def _entry(entry: Entry, width: int) -> Iterator[str]:
    finding = entry.first.finding
    place = finding.site or "(model)"
    yield f"{finding.code} {finding.name}  {place}  {entry.mark}"
    yield from _block(f"when: {spells(entry.first.spells)}", width)
    yield from _block(finding.message, width)
    others = [e.finding for e in entry.others]
    if others:
        yield from _block(f"{also(finding, others)}: {places(others)}", width)
    yield from _block(f"cause: {finding.cause}", width)
    yield from _block(f"evidence: {evidence(finding)}", width)
    yield from _block(f"help: {finding.remedy.advice} [{safety(finding)}]", width)
    for other, _ in explained([finding, *others]):
        where = other.site or "(model)"
        yield from _block(f"explains: {other.code} {other.name} {where}", width)


def spells(found: tuple[tuple[int, int | None], ...]) -> str:
    """Return from when to when something held, in words."""
    parts = [
        f"from step {a:,}" if b is None else f"steps {a:,} to {b:,}" for a, b in found
    ]
    return ", ".join(parts)


def _block(text: str, width: int) -> list[str]:
    return wrap(
        f"  {text}",
        width,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
