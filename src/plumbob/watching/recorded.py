"""A run file read back; it may come from anybody, so nothing in it is executed."""

import os
import socket
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plumbob.errors import FileError
from plumbob.survey.history import Past
from plumbob.types import Change, Event, History, Log, Run, Window
from plumbob.watching.run_format import (
    HELD,
    NAME,
    NUMBERS,
    VERSION,
    facts,
    finding,
    made,
    marks,
    site,
    tree_of,
    window,
)

LONGEST = 2**27  # bytes of one value
MOST = {  # rows
    "about": 100,
    "parameters": 10**6,
    "logs": 10**5,
    "losses": 10**6,
    "windows": 10**6,
    "judged": 10**5,
    "changes": 10**5,
    "events": 10**5,
}
_STOPPED = {"end"}


def read_run(path: Path) -> Run:
    """Read a run, finished or not, while it is written or not.

    Args:
        path: the run file, or the folder that it lies in.

    Raises:
        FileError: there is none, or it is not a sound one.
    """
    place = _file(path)
    with _opened(place) as file:
        about = {key: tree_of(f'{{"it":{text}}}')["it"] for key, text in file("about")}
        _same(about)
        events = tuple(
            made(Event, {"step": step, "kind": kind, "text": text})
            for _, step, kind, text in file("events")
        )
        over = any(event.kind in _STOPPED for event in events)
        notes = dict(about.get("about") or {})
        return Run(
            name=place.parent.name,
            about=notes,
            sites=tuple(site(tree) for tree in about.get("sites") or ()),
            history=_history(file, over=over, about=about),
            findings=tuple(finding(tree) for tree in about.get("findings") or ()),
            changes=tuple(
                made(
                    Change,
                    {"step": step, "kind": kind, "finding": finding(tree_of(text))},
                )
                for _, step, kind, text in file("changes")
            ),
            judged=tuple(int(step) for (step,) in file("judged")),
            events=events,
            not_judged=_words(about.get("not_judged")),
            crashed=_words(about.get("crashed")),
            over=over,
            died=None if over else _died(notes),
        )


def read_logs(path: Path) -> Iterator[Log]:
    """Yield the logs that were kept, in order, with marks and without windows.

    Raises:
        FileError: it is no sound run file.
    """
    with _opened(_file(path)) as file:
        yield from _logs(file)


class _File:
    """The tables of a run file, row by row, as long as their values are bounded."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self.file = file
        kinds = dict(file.execute("SELECT name, type FROM sqlite_master"))
        for table in MOST:
            if kinds.get(table) != "table":
                raise ValueError(f"it has no table '{table}'")
        self.columns = {
            table: [row[1] for row in file.execute(f"PRAGMA table_info({table})")]
            for table in MOST
        }

    def __call__(self, table: str) -> Iterator[Any]:
        columns = self.columns[table]
        size = " + ".join(f'ifnull(length("{name}"), 0)' for name in columns)
        names = ", ".join(f'"{name}"' for name in columns)
        return self.file.execute(
            f"SELECT {names} FROM {table} WHERE {size} <= {LONGEST} "
            f"ORDER BY 1, 2 LIMIT {MOST[table]}"
            if len(columns) > 1
            else f"SELECT {names} FROM {table} ORDER BY 1 LIMIT {MOST[table]}"
        )


@contextmanager
def _opened(place: Path) -> Generator[_File, None, None]:
    """Open a run file for reading alone; one in a folder without rights too.

    Raises:
        FileError: it is not a sound one.
    """
    try:
        with closing(_connected(place)) as file:
            file.execute("PRAGMA trusted_schema = OFF")
            file.execute("BEGIN")  # one moment of a file that is being written
            yield _File(file)
    except (sqlite3.Error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileError(
            f"'{place}' is no sound run file of plumbob ({error}); record it again"
        ) from error


def _connected(place: Path) -> sqlite3.Connection:
    for more in ("", "&immutable=1"):
        file = sqlite3.connect(f"{place.resolve().as_uri()}?mode=ro{more}", uri=True)
        try:
            file.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            file.close()
            if more:
                raise
        else:
            return file
    raise AssertionError


def _file(path: Path) -> Path:
    path = Path(path)
    place = path / NAME if path.is_dir() else path
    if not place.is_file():
        inside = sorted(str(run.parent) for run in path.glob(f"*/{NAME}"))
        raise FileError(
            f"expected the folder of a run, got '{path}', which holds no {NAME}; "
            + (
                f"name one that lies in it, such as '{inside[-1]}'"
                if inside
                else "record one: plumbob.watch(..., run='runs/name')"
            )
        )
    return place


def _logs(file: _File) -> Iterator[Log]:
    names = [(str(name), int(numel)) for _, name, numel in file("parameters")]
    for step, text, raw in file("logs"):
        yield made(Log, facts(text) | {"step": step, "marks": marks(raw, names)})


def _same(about: Any) -> None:
    """Refuse what another version wrote.

    Raises:
        ValueError: it did.
    """
    if about.get("version", VERSION) != VERSION:
        raise ValueError(f"version {about['version']}, where this reads {VERSION}")
    if tuple(about.get("numbers", NUMBERS)) != NUMBERS:
        raise ValueError("its marks are of another version")


def _history(file: _File, *, over: bool, about: Any) -> History:
    past = Past()
    for log in _logs(file):
        past.add(log)
    for _, series, steps, values in file("losses"):
        at = np.frombuffer(steps, "<i8").tolist()
        some = tuple(zip(at, np.frombuffer(values, "<f8").tolist(), strict=True))
        if series == HELD:
            past.hold(some)
        else:
            past.note(str(series), some)
    known = about.get("known") or {}
    constant, floor = (_number(known.get(name)) for name in ("constant", "floor"))
    found = past.history(over=over, constant=constant, floor=floor)
    return replace(found, windows=_windows(file))


def _words(tree: Any) -> dict[str, str]:
    return {name: str(reason) for name, reason in (tree or {}).items()}


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _windows(file: _File) -> dict[str, tuple[Window, ...]]:
    found: dict[str, list[Window]] = {}
    for name, first, last, samples, raw in file("windows"):
        row = found.setdefault(str(name), [])
        row.append(window(raw, int(first), int(last), int(samples)))
    return {name: tuple(row) for name, row in found.items()}


def _died(about: Any) -> bool | None:
    """Say whether the process that wrote it is gone; None on another machine."""
    process = about.get("process")
    if about.get("host") != socket.gethostname() or not isinstance(process, int):
        return None
    if os.name != "posix":  # where the signal 0 is Ctrl-C
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
