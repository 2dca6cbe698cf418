"""A run in one SQLite file: readable while it is written, bounded, never in the way."""

import os
import platform
import socket
import sqlite3
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from importlib import metadata
from pathlib import Path
from shlex import join
from shutil import rmtree
from typing import Any

import numpy as np

from plumbob.judge import Verdict
from plumbob.survey.history import Slots
from plumbob.types import Finding, Log, Survey
from plumbob.watching.run_format import (
    HELD,
    NAME,
    NUMBERS,
    TABLES,
    VERSION,
    dumped,
    log_facts,
    packed_finding,
    packed_marks,
    packed_site,
    packed_window,
)
from plumbob.watching.timeline import Timeline

PAUSE = 1.0  # seconds between two transactions at least
ROOM = 2**25  # bytes of marks, and as many of windows, that a file may hold
LOGS = (128, 2048)  # kept, by the number of parameters; of more every second one is
SLOTS = (4, 32)  # windows kept, by the number of units
COMMAND = 2000  # letters of the command that are kept
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class RunFile:
    """A sink: what was measured, what was found and what happened, in a new folder.

    Everything since the last transaction is in memory, so a process that is killed
    loses what it measured within the last second, or since its last log. Losses are
    kept as they are, marks and windows thinned to at most ROOM bytes each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = os.getpid()  # a fork of it is not to write
        path = folder / NAME
        self.file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self.file.execute("PRAGMA journal_mode = WAL")
            self.file.execute("PRAGMA synchronous = NORMAL")
            self.file.executescript(TABLES)
        except sqlite3.Error:
            self.file.close()
            raise
        self.names: dict[str, int] = {}
        self.steps: list[int] = []
        self.waiting: list[Log] = []
        self.slots = Slots(SLOTS[1])
        self.stored: dict[tuple[int, int], tuple[str, ...]] = {}
        self.timeline = Timeline()
        self.written = 0.0

    @classmethod
    def new(cls, folder: Path | None = None) -> "RunFile":
        """Make a folder that was not there: this, with a letter, or runs/ with a date.

        Raises:
            OSError: none can be made, or nothing can be written there.
        """
        for place in _places(folder):
            try:
                place.mkdir(parents=True)
            except FileExistsError:
                continue
            try:
                return cls(place)
            except sqlite3.Error as error:
                rmtree(place, ignore_errors=True)  # half of a run is none
                raise OSError(f"{place / NAME}: {error}") from error
        raise OSError(f"no name beside {folder} is free")

    def begin(self, survey: Survey, about: Mapping[str, Any]) -> None:
        """Write down what is known of the run."""
        units = sum(site.out for site in survey.sites)
        self.slots.most = _within(SLOTS, ROOM // (36 * max(1, units)))
        past = survey.history
        known = {
            "version": VERSION,
            "numbers": NUMBERS,
            "about": {**survey.about, **about, **self._owner()},
            "sites": [packed_site(site) for site in survey.sites],
            "known": {"constant": past.constant, "floor": past.floor} if past else {},
        }
        with self._transaction():
            for key, value in known.items():
                self._about(key, value)

    def _owner(self) -> dict[str, Any]:
        """Return what a page says of how to run it again, and who writes here."""
        program, *words = sys.orig_argv or ["python"]
        return {
            "command": join([Path(program).name, *words])[:COMMAND],
            "plumbob": metadata.version("plumbob"),
            "python": platform.python_version(),
            "started": time.time(),
            "host": socket.gethostname(),
            "process": self.process,
        }

    def write(self, log: Log) -> None:
        """Keep a log, and write all that wait, if the last time is long ago."""
        if self._elsewhere():
            return
        self.waiting.append(log)
        if time.monotonic() - self.written >= PAUSE:
            self._commit()

    def verdict(self, step: int, verdict: Verdict) -> None:
        """Note what was not judged, and why."""
        if not self._elsewhere():
            with self._transaction():
                self._about("not_judged", dict(verdict.not_judged))
                self._about("crashed", dict(verdict.crashed))

    def tell(self, step: int, findings: Sequence[Finding]) -> None:
        """Write down what holds from this step on, and what that changes."""
        changes = self.timeline.add(step, findings)
        if self._elsewhere():
            return
        rows = [(c.step, c.kind, dumped(packed_finding(c.finding))) for c in changes]
        with self._transaction():
            self._about("findings", [packed_finding(f) for f in findings])
            self.file.execute("INSERT OR IGNORE INTO judged VALUES (?)", (step,))
            self.file.executemany(
                "INSERT INTO changes (step, kind, finding) VALUES (?, ?, ?)", rows
            )

    def event(self, step: int, kind: str, text: str) -> None:
        """Write down what else happened; its end makes the run one that is over."""
        if self._elsewhere():
            return
        with self._transaction():
            self.file.execute(
                "INSERT INTO events (step, kind, words) VALUES (?, ?, ?)",
                (step, kind, text),
            )

    def close(self) -> None:
        """Write what waits, and leave one file."""
        if self._elsewhere():
            return
        try:
            self._commit()
            self.file.execute("PRAGMA journal_mode = DELETE")  # one plain file
        finally:
            self.file.close()

    def _elsewhere(self) -> bool:
        return os.getpid() != self.process

    def _about(self, key: str, value: Any) -> None:
        self.file.execute(
            "INSERT OR REPLACE INTO about VALUES (?, ?)", (key, dumped(value))
        )

    @contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        """Write all or nothing; what fails once will again, so the file is left.

        Raises:
            sqlite3.Error: it cannot be written.
        """
        try:
            self.file.execute("BEGIN")
            yield
            self.file.execute("COMMIT")
        except sqlite3.Error:
            self.file.close()
            raise

    def _commit(self) -> None:
        """Write all logs that wait."""
        logs, self.waiting = self.waiting, []
        with self._transaction():
            for log in logs:
                self._marks(log)
                self.slots.add(log)
            self._losses(logs)
            self._windows()
        self.written = time.monotonic()

    def _marks(self, log: Log) -> None:
        new = [name for name in log.marks if name not in self.names]
        for name in new:
            self.names[name] = len(self.names)
        self.file.executemany(
            "INSERT INTO parameters VALUES (?, ?, ?)",
            [(self.names[name], name, log.marks[name].numel) for name in new],
        )
        self.file.execute(
            "INSERT OR REPLACE INTO logs VALUES (?, ?, ?)",
            (log.step, log_facts(log), packed_marks(log.marks, list(self.names))),
        )
        self.steps.append(log.step)
        row = 4 * len(NUMBERS) * max(1, len(self.names))
        if len(self.steps) > _within(LOGS, ROOM // row):
            gone = self.steps[1:-1:2]
            del self.steps[1:-1:2]
            self.file.executemany(
                "DELETE FROM logs WHERE step = ?", [(step,) for step in gone]
            )

    def _losses(self, logs: Sequence[Log]) -> None:
        series: dict[str, list[tuple[int, float]]] = {}
        for log in logs:
            for name, some in (*log.losses.items(), (HELD, log.held)):
                series.setdefault(name, []).extend(some)
        self.file.executemany(
            "INSERT INTO losses (series, steps, vals) VALUES (?, ?, ?)",
            [
                (
                    name,
                    np.array([step for step, _ in some], "<i8").tobytes(),
                    np.array([value for _, value in some], "<f8").tobytes(),
                )
                for name, some in series.items()
                if some
            ],
        )

    def _windows(self) -> None:
        """Write the windows that are new, and take out those that were merged."""
        now = {(s.first, s.last): tuple(s.windows) for s in self.slots.kept}
        gone = [
            (site, first)
            for (first, last), sites in self.stored.items()
            if (first, last) not in now
            for site in sites
        ]
        self.file.executemany("DELETE FROM windows WHERE site = ? AND first = ?", gone)
        self.file.executemany(
            "INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?, ?)",
            [
                (site, slot.first, w.last, w.samples, packed_window(w))
                for slot in self.slots.kept
                if (slot.first, slot.last) not in self.stored
                for site, w in slot.windows.items()
            ],
        )
        self.stored = now


def _places(folder: Path | None) -> Iterator[Path]:
    """Yield names for a run, until one is free."""
    folder = folder or Path("runs", f"{date.today().isoformat()}-a")
    yield folder
    start = folder.name.removesuffix("-a")
    ends = *LETTERS[1:], *range(27, 10_000)
    yield from (folder.with_name(f"{start}-{end}") for end in ends)


def _within(ends: tuple[int, int], value: int) -> int:
    return max(ends[0], min(ends[1], value))
