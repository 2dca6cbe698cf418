"""A run for programs: one JSON object with a stable schema.

`version` grows when a field is renamed or removed, not when one is added. NaN and
infinite numbers, which JSON lacks, are null.
"""

import json
from typing import Any

from plumbob.report.episodes import episodes
from plumbob.report.run_words import state
from plumbob.report.site_over_time import numbers
from plumbob.report.table import plain, told
from plumbob.types import Losses, Run

VERSION = 1


def render(run: Run) -> str:
    """Return the run as indented JSON."""
    series = {
        "losses": {name: _series(one) for name, one in run.history.losses.items()},
        "validation": _series(run.history.held) if run.history.held else None,
    }
    return json.dumps(
        tree(run) | series, indent=1, ensure_ascii=False, allow_nan=False, default=str
    )


def pair(one: Run, two: Run) -> str:
    """Return two runs as an indented list of what `render` gives."""
    return f"[\n{render(one)},\n{render(two)}\n]"


def tree(run: Run) -> dict[str, Any]:
    """Return all but the curves as plain values."""
    history = run.history
    ends = [numbers(site, history) for site in run.sites]
    return {
        "version": VERSION,
        "name": run.name,
        "state": state(run),
        "over": run.over,
        "died": run.died,
        "about": {name: plain(value) for name, value in run.about.items()},
        "steps": history.taken,
        "measured": len(history.steps),
        "seconds": plain(history.seconds),
        "findings": [
            told(e.finding) | {"spells": [{"found": a, "gone": b} for a, b in e.spells]}
            for e in episodes(run)
        ],
        "events": [
            {"step": e.step, "kind": e.kind, "text": e.text} for e in run.events
        ],
        "not_judged": dict(run.not_judged),
        "crashed": dict(run.crashed),
        "sites": {
            "name": [e.site.name for e in ends],
            "kind": [e.site.kind for e in ends],
            "out": [e.site.out for e in ends],
            "fan_in": [e.site.fan_in for e in ends],
            "beta": [_round(e.beta) for e in ends],
            "sd": [_round(e.sd) for e in ends],
            "firing": [_round(e.firing) for e in ends],
            "update": [_round(e.update) for e in ends],
        },
    }


def _series(one: Losses) -> dict[str, list[Any]]:
    return {
        "steps": one.steps.tolist(),
        "values": [plain(value) for value in one.values.tolist()],
    }


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
