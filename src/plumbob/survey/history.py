"""The logs of a run, joined: as they come, or read back from a file."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from statistics import median

import numpy as np
from jaxtyping import Float

from plumbob.types import Course, History, Log, Losses, Mark, Window

LOGS = 512  # kept in memory; of more every second one is
FIRST = 5  # of them always: a first step may throw what never comes back
WINDOWS = 32  # of the whole run; of more the finest for their age are merged
LOSSES = 2**14  # per series; of more the older ones are averaged in pairs

NUMBERS = tuple(f.name for f in fields(Mark) if f.name != "numel")
_numbers = attrgetter(*NUMBERS)
_NONE = _numbers(Mark(numel=0))


@dataclass(slots=True)
class Slot:
    """The windows of all sites from one step to another."""

    first: int
    last: int
    windows: dict[str, Window]

    def __add__(self, later: "Slot") -> "Slot":
        """Join it to the next one."""
        mine = self.windows
        both = {n: mine[n] + w if n in mine else w for n, w in later.windows.items()}
        return Slot(self.first, later.last, mine | both)


class Slots:
    """Windows one after the other, a bounded number, the later the finer."""

    def __init__(self, most: int = WINDOWS) -> None:
        self.most = most
        self.kept: list[Slot] = []

    def add(self, log: Log) -> None:
        """Take in the windows of the next log."""
        if log.windows:
            first = min(w.first for w in log.windows.values())
            self.kept.append(Slot(first, log.step, dict(log.windows)))
        if len(self.kept) > self.most:
            i = _finest([(s.first, s.last) for s in self.kept])
            self.kept[i : i + 2] = [self.kept[i] + self.kept[i + 1]]

    def by_site(self) -> dict[str, tuple[Window, ...]]:
        """Return the windows of each site."""
        names = dict.fromkeys(name for slot in self.kept for name in slot.windows)
        return {
            n: tuple(s.windows[n] for s in self.kept if n in s.windows) for n in names
        }


def _finest(spans: Sequence[tuple[int, int]]) -> int:
    """Return the first of the two neighbours that are shortest for their age.

    So each window is about as long as a fixed share of its age.
    """
    end = spans[-1][1] + 1
    pairs = itertools.pairwise(spans)
    cost = [(late + 1 - first) / (end - first) for (first, _), (_, late) in pairs]
    return cost.index(min(cost))


class Past:
    """Takes logs in, gives the history out; its memory is bounded."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.rows: list[Float[np.ndarray, "parameters numbers"]] = []
        self.others: list[tuple[int, float]] = []  # samples, scale
        self.numel: dict[str, int] = {}
        self.slots = Slots()
        self.losses: dict[str, list[tuple[int, float]]] = {}
        self.early: dict[str, list[tuple[int, float]]] = {}  # no log has them yet
        self.held: list[tuple[int, float]] = []
        self.last = Log(step=-1)

    def add(self, log: Log) -> None:
        """Take in the next log."""
        self.last = log
        if log.marks:
            self._mark(log)
        for name, some in log.losses.items():
            known = self.losses[name] = _joined(self.losses.get(name, []), some)
            early = self.early.pop(name, ())
            self.early[name] = [one for one in early if one[0] > known[-1][0]]
        self.hold(log.held)
        self.slots.add(log)

    def note(self, name: str, some: Iterable[tuple[int, float]]) -> None:
        """Take in losses before their log, which stands for them once it comes."""
        self.early.setdefault(name, []).extend(some)

    def hold(self, some: Iterable[tuple[int, float]]) -> None:
        """Take in losses on held-out data."""
        self.held = _joined(self.held, some)

    def _mark(self, log: Log) -> None:
        for name, mark in log.marks.items():
            self.numel.setdefault(name, mark.numel)
        row = [_numbers(m) if (m := log.marks.get(n)) else _NONE for n in self.numel]
        self.steps.append(log.step)
        self.rows.append(np.array(row, float))
        self.others.append((log.samples, log.scale))
        if len(self.steps) > LOGS:
            for series in (self.steps, self.rows, self.others):
                del series[FIRST:-1:2]

    def history(
        self,
        *,
        over: bool = False,
        constant: float | None = None,
        floor: float | None = None,
    ) -> History:
        """Return the run so far, with what logs do not hold."""
        last, losses = self.last, self._losses()
        ends = [some[-1][0] for some in losses.values() if some]
        return History(
            steps=np.array(self.steps, np.int64),
            courses=self._courses(),
            windows=self.slots.by_site(),
            losses={name: _series(some) for name, some in losses.items()},
            held=_series(self.held) if self.held else None,
            samples=int(median([samples for samples, _ in self.others] or [0])),
            seconds=last.seconds,
            passes=last.passes,
            looked=last.looked,
            uncleared=last.uncleared,
            skipped=last.skipped,
            apart=last.apart,
            unheld=last.unheld,
            scales=np.array([scale for _, scale in self.others], float),
            taken=max([last.step, *ends]) + 1,
            over=over,
            constant=constant,
            floor=floor,
        )

    def _losses(self) -> Mapping[str, list[tuple[int, float]]]:
        early = {
            name: _joined([*self.losses.get(name, ())], some)
            for name, some in self.early.items()
        }
        return self.losses | early

    def _courses(self) -> Mapping[str, Course]:
        table = np.empty((len(NUMBERS), len(self.numel), len(self.rows)))
        table[:] = np.array(_NONE)[:, None, None]
        for i, row in enumerate(self.rows):
            table[:, : len(row), i] = row.T
        return {
            name: Course(
                numel=numel, **dict(zip(NUMBERS, table[:, place], strict=True))
            )
            for place, (name, numel) in enumerate(self.numel.items())
        }


def _series(some: list[tuple[int, float]]) -> Losses:
    return Losses(
        steps=np.array([step for step, _ in some], np.int64),
        values=np.array([value for _, value in some], float),
    )


def _joined(
    some: list[tuple[int, float]], more: Iterable[tuple[int, float]]
) -> list[tuple[int, float]]:
    some += more
    if len(some) <= LOSSES:
        return some
    half = len(some) // 4 * 2
    pairs = zip(some[:half:2], some[1:half:2], strict=True)
    return [(late, (a + b) / 2) for (_, a), (late, b) in pairs] + some[half:]
