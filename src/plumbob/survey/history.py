"""The logs of a run, joined: as they come, or read back from a file."""

from collections.abc import Mapping
from dataclasses import fields, replace
from statistics import median

import numpy as np

from plumbob.types import Course, History, Log, Losses, Mark, Window

LOGS = 512  # kept in memory; of more every second one is
WINDOWS = 32  # per site; of more the older ones are merged in pairs
LOSSES = 2**14  # per series; of more the older ones are averaged in pairs

_NUMBERS = tuple(f.name for f in fields(Mark) if f.name != "numel")


class Past:
    """Takes logs in, gives the history out; its memory is bounded."""

    def __init__(self) -> None:
        self.logs: list[Log] = []
        self.windows: dict[str, list[Window]] = {}
        self.losses: dict[str, list[tuple[int, float]]] = {}
        self.held: list[tuple[int, float]] = []
        self.last = Log(step=-1)

    def add(self, log: Log) -> None:
        """Take in the next log."""
        self.last = log
        if log.marks:
            self.logs.append(replace(log, windows={}, losses={}, held=()))
        if len(self.logs) > LOGS:
            self.logs = [*self.logs[:-1:2], self.logs[-1]]
        for name, some in log.losses.items():
            series = self.losses.setdefault(name, [])
            series += some
            if len(series) > LOSSES:
                self.losses[name] = _thinner(series)
        self.held += log.held
        for name, window in log.windows.items():
            row = self.windows.setdefault(name, [])
            row.append(window)
            if len(row) > WINDOWS:
                half = WINDOWS // 2
                pairs = zip(row[:half:2], row[1:half:2], strict=True)
                row[:half] = [one + two for one, two in pairs]

    def history(
        self,
        *,
        over: bool = False,
        constant: float | None = None,
        floor: float | None = None,
    ) -> History:
        """Return the run so far, with what logs do not hold."""
        last = self.last
        taken = max([
            last.step,
            *(some[-1][0] for some in self.losses.values() if some),
        ])
        return History(
            steps=np.array([log.step for log in self.logs], np.int64),
            courses=self._courses(),
            windows={name: tuple(row) for name, row in self.windows.items()},
            losses={name: _series(some) for name, some in self.losses.items()},
            held=_series(self.held) if self.held else None,
            samples=int(median([log.samples for log in self.logs] or [0])),
            seconds=last.seconds,
            passes=last.passes,
            looked=last.looked,
            uncleared=last.uncleared,
            skipped=last.skipped,
            apart=last.apart,
            scales=np.array([log.scale for log in self.logs], float),
            taken=taken + 1,
            over=over,
            constant=constant,
            floor=floor,
        )

    def _courses(self) -> Mapping[str, Course]:
        found: dict[str, Course] = {}
        for name in dict.fromkeys(name for log in self.logs for name in log.marks):
            first = next(log.marks[name] for log in self.logs if name in log.marks)
            none = Mark(numel=first.numel)
            row = [log.marks.get(name, none) for log in self.logs]
            found[name] = Course(
                numel=first.numel,
                **{n: np.array([getattr(m, n) for m in row], float) for n in _NUMBERS},
            )
        return found


def _series(some: list[tuple[int, float]]) -> Losses:
    return Losses(
        steps=np.array([step for step, _ in some], np.int64),
        values=np.array([value for _, value in some], float),
    )


def _thinner(some: list[tuple[int, float]]) -> list[tuple[int, float]]:
    half = len(some) // 4 * 2
    pairs = zip(some[:half:2], some[1:half:2], strict=True)
    return [(late, (a + b) / 2) for (_, a), (late, b) in pairs] + some[half:]
