"""When each finding of a run came and went."""

from collections.abc import Iterable
from dataclasses import dataclass

from plumbob.report.words import MARK, alike
from plumbob.types import Finding, Run, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A finding as it was said last, and the steps from which to which it held.

    `spells` are (found, gone); gone None: it still held at the end.
    """

    finding: Finding
    spells: tuple[tuple[int, int | None], ...]

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.finding.severity or Severity.INFO

    @property
    def found(self) -> int:
        """The step at which it was found first."""
        return self.spells[0][0]

    @property
    def gone(self) -> int | None:
        """The step at which it went for good; None where it holds."""
        return self.spells[-1][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Findings that are told once: the first, and others that differ by numbers."""

    number: int
    first: Episode
    others: tuple[Episode, ...] = ()

    @property
    def all(self) -> tuple[Episode, ...]:
        """The first and the others."""
        return (self.first, *self.others)

    @property
    def mark(self) -> str:
        """The sign and the word of its severity."""
        return f"{MARK[self.first.severity]} {self.word}"

    @property
    def word(self) -> str:
        """The word of its severity."""
        return self.first.severity.name.lower()

    @property
    def found(self) -> int:
        """The step at which the first of them was found."""
        return min(one.found for one in self.all)

    @property
    def gone(self) -> int | None:
        """The step at which the last of them went; None where one holds."""
        ends = [one.gone for one in self.all]
        return None if None in ends else max(end for end in ends if end is not None)


def key(finding: Finding) -> tuple[str, str | None]:
    """Return what makes two findings the same one: its code and place."""
    return finding.code, finding.site


def episodes(run: Run) -> list[Episode]:
    """Return all findings of a run, those that hold first, worst first.

    Those that one of them explains now are told with it.
    """
    told: dict[tuple[str, str | None], Finding] = {}
    spells: dict[tuple[str, str | None], list[tuple[int, int | None]]] = {}
    for change in run.changes:
        row = spells.setdefault(key(change.finding), [])
        open_ = bool(row) and row[-1][1] is None
        if change.kind == "gone" and open_:
            row[-1] = (row[-1][0], change.step)
        elif change.kind != "gone" and not open_:
            row.append((change.step, None))
        told[key(change.finding)] = change.finding
    last = run.judged[-1] if run.judged else 0
    for finding in run.findings:  # as it was said last
        told[key(finding)] = finding
        row = spells.setdefault(key(finding), [])
        if not row or row[-1][1] is not None:
            row.append((last, None))
    inner = {key(c) for f in run.findings for c in f.consequences}
    found = [
        Episode(finding=told[k], spells=tuple(row))
        for k, row in spells.items()
        if row and k not in inner
    ]
    order = {key(finding): i for i, finding in enumerate(run.findings)}
    return sorted(
        found,
        key=lambda e: (
            e.gone is not None,
            -e.severity,
            order.get(key(e.finding), len(order)),
            e.found,
        ),
    )


def entries(run: Run) -> list[Entry]:
    """Return what is told once, in the order of `episodes`."""
    all_ = episodes(run)
    held = {id(e.finding): e for e in all_}
    groups = alike(e.finding for e in all_)
    return [
        Entry(
            number=number,
            first=held[id(first)],
            others=tuple(held[id(other)] for other in others),
        )
        for number, (first, others) in enumerate(groups, 1)
    ]


def counts(found: Iterable[Episode]) -> dict[Severity, int]:
    """Return how many findings hold, by severity, worst first."""
    holding = [e.severity for e in found if e.gone is None]
    return {s: holding.count(s) for s in sorted(Severity, reverse=True)}
