"""How a run lies in its file: tables, packed arrays, JSON; nothing that is executed."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar, cast

import numpy as np
from jaxtyping import Float

from plumbob.types import (
    Feed,
    Finding,
    Log,
    Mark,
    Moments,
    Passes,
    Remedy,
    Safety,
    Severity,
    Site,
    Stage,
    Window,
)

NAME = "run.sqlite"
VERSION = 1
TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE parameters (place INTEGER PRIMARY KEY, name TEXT, numel INTEGER);
CREATE TABLE logs (step INTEGER PRIMARY KEY, facts TEXT, marks BLOB);
CREATE TABLE losses (number INTEGER PRIMARY KEY, series TEXT, steps BLOB, vals BLOB);
CREATE TABLE windows (
    site TEXT, first INTEGER, last INTEGER, samples INTEGER, moments BLOB,
    PRIMARY KEY (site, first)
) WITHOUT ROWID;
CREATE TABLE judged (step INTEGER PRIMARY KEY);
CREATE TABLE changes (
    number INTEGER PRIMARY KEY, step INTEGER, kind TEXT, finding TEXT
);
CREATE TABLE events (number INTEGER PRIMARY KEY, step INTEGER, kind TEXT, words TEXT);
"""
HELD = ""  # the series of validation losses; a name of a training loss is not empty

NUMBERS = tuple(f.name for f in fields(Mark) if f.name != "numel")
_APART = {"step", "marks", "windows", "losses", "held"}
FACTS = tuple(f.name for f in fields(Log) if f.name not in _APART)
_COUNTED = ("count", "positive", "nonfinite")
_MEASURED = ("mean", "m2", "low", "high")

Made = TypeVar("Made")


# Marks: one row of numbers per parameter


def packed_marks(marks: Mapping[str, Mark], names: Sequence[str]) -> bytes:
    """Return the marks of these parameters as float32, NaN where there are none."""
    none = Mark(numel=0)
    rows = [[getattr(marks.get(name, none), n) for n in NUMBERS] for name in names]
    with np.errstate(over="ignore"):
        return np.array(rows, "<f4").tobytes()


def marks(raw: bytes, parameters: Sequence[tuple[str, int]]) -> dict[str, Mark]:
    """Return marks by name; later parameters may not be there yet.

    Raises:
        ValueError: the bytes are not rows of numbers of these parameters.
    """
    table = floats(raw).reshape(-1, len(NUMBERS))
    if len(table) > len(parameters):
        raise ValueError("more marks than parameters")
    return {
        name: Mark(numel=numel, **dict(zip(NUMBERS, row, strict=True)))
        for (name, numel), row in zip(parameters, table.tolist(), strict=False)
        if not all(math.isnan(v) for v in row[:-1])
    }


def floats(raw: bytes) -> Float[np.ndarray, " n"]:
    """Return float32 numbers as float64.

    Raises:
        ValueError: their number of bytes is no multiple of 4.
    """
    return np.frombuffer(raw, "<f4").astype(float)


# Windows: eight numbers per unit


def packed_window(window: Window) -> bytes:
    """Return a window's moments, saturation and biases, unit by unit, as float32."""
    z, none = window.z, np.full(len(window.z.mean), np.nan)
    rows = [getattr(z, name) for name in (*_COUNTED, *_MEASURED)]
    rows += [none if v is None else v for v in (window.saturated, window.bias)]
    with np.errstate(over="ignore"):
        return np.stack([np.asarray(row, "<f4") for row in rows]).tobytes()


def window(raw: bytes, first: int, last: int, samples: int) -> Window:
    """Return a window; counts above 2^24 are rounded.

    Raises:
        ValueError: the bytes are not the numbers of units.
    """
    table = floats(raw).reshape(len(_COUNTED) + len(_MEASURED) + 2, -1)
    *moments, saturated, bias = table
    counts = {name: whole(row) for name, row in zip(_COUNTED, moments[:3], strict=True)}
    return Window(
        first=first,
        last=last,
        samples=samples,
        z=Moments(**counts, **dict(zip(_MEASURED, moments[3:], strict=True))),
        saturated=None if np.isnan(saturated).any() else whole(saturated),
        bias=None if np.isnan(bias).all() else bias,
    )


def whole(row: Float[np.ndarray, " n"]) -> Any:
    """Return counts.

    Raises:
        ValueError: they are none.
    """
    if not ((row >= 0) & (row < 2**62)).all():
        raise ValueError("counts below zero")
    return np.rint(row).astype(np.int64)


# Everything else: JSON


def dumped(value: Any) -> str:
    """Return JSON; arrays become lists, what it does not know its text."""
    return json.dumps(value, default=_plain, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(cast(Mapping[Any, Any], value))
    return str(value)


def log_facts(log: Log) -> str:
    """Return what a log says besides marks, windows and losses."""
    plain = {name: getattr(log, name) for name in FACTS}
    return dumped(plain | {"passes": asdict(log.passes)})


def facts(text: str) -> dict[str, Any]:
    """Return the fields of a log; those that this version does not know are left out.

    Raises:
        ValueError: it is no such text.
    """
    tree = tree_of(text)
    found = {name: tree[name] for name in FACTS if name in tree}
    found["passes"] = made(Passes, tree.get("passes") or {})
    for name, value in found.items():
        if isinstance(value, list):
            found[name] = tuple(cast(list[Any], value))
    return found


def packed_site(site: Site) -> Any:
    """Return a site as JSON holds it."""
    return asdict(site) | {"stage": site.stage.value}


def site(tree: Any) -> Site:
    """Return a site.

    Raises:
        ValueError: it is none.
    """
    feeds = tuple(made(Feed, feed) for feed in tree.get("feeds", ()))
    more = {"feeds": feeds, "stage": Stage(tree.get("stage", "unknown"))}
    return made(Site, tree | more)


def packed_finding(finding: Finding) -> Any:
    """Return a finding and its consequences as JSON holds them."""
    remedy = finding.remedy
    return {
        **{f.name: getattr(finding, f.name) for f in fields(Finding)},
        "severity": (finding.severity or Severity.INFO).name,
        "remedy": {
            "advice": remedy.advice,
            "safety": remedy.safety.value,
            "act": remedy.act,
            "arguments": dict(remedy.arguments),
        },
        "consequences": [packed_finding(c) for c in finding.consequences],
    }


def finding(tree: Any) -> Finding:
    """Return a finding.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(tree["site"], str | None):
        raise ValueError("the site of a finding is no name")
    for name, value in tree["evidence"].items():
        if not isinstance(value, int | float):
            raise ValueError(f"the evidence '{name}' is no number")
    remedy = dict(tree["remedy"])
    remedy["safety"] = Safety(remedy["safety"])
    more = {
        "severity": Severity[tree["severity"]],
        "remedy": made(Remedy, remedy),
        "consequences": tuple(finding(c) for c in tree["consequences"]),
    }
    return made(Finding, tree | more)


def made(kind: Callable[..., Made], tree: Any) -> Made:
    """Return one of a kind from the fields that it knows; lists become tuples.

    Raises:
        ValueError: a field is not what it is to be.
    """
    known: dict[str, Any] = {}
    for name, hint in _hints(kind).items():
        if name not in tree:
            continue
        value = tree[name]
        if isinstance(value, list):
            value = tuple(cast(list[Any], value))
        if not isinstance(value, hint):
            raise ValueError(f"{name} is {type(value).__name__}")
        known[name] = value
    try:
        return kind(**known)
    except TypeError as error:  # a field is missing
        raise ValueError(str(error)) from error


_PLAIN: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
}


def _hints(kind: Any) -> dict[str, Any]:
    """Return the types that a field's value may have, by name."""
    found: dict[str, Any] = {}
    for field in fields(kind):
        hint = field.type if isinstance(field.type, type) else None
        plain = _PLAIN.get(hint.__name__) if hint else None
        found[field.name] = plain or object
    return found


def tree_of(text: str) -> Any:
    """Return what a JSON object holds.

    Raises:
        ValueError: it is none, or nested too deep.
    """
    try:
        tree = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(tree, dict):
        raise ValueError("no JSON object")
    return cast(dict[str, Any], tree)
