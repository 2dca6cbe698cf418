"""Plain lines of JSON: for `tail -f`, `jq`, and everything that has no sink yet."""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from plumbob.types import Finding, Log, Severity, Survey
from plumbob.watching.series import places, series
from plumbob.watching.timeline import Timeline


class JsonLines:
    """A sink: one object a line, which says by "kind" what it is.

    "run" comes first and says what is known of the run, "log" holds at most some 60
    numbers of a measured step (see `plumbob.watching.series`), "new", "worse" and
    "gone" a finding, "end" is last. A line is written at once. What is not finite is
    null, as JSON has no word for it.

    Args:
        target: a path, which is written anew, or a text stream, which stays open.
    """

    def __init__(self, target: Any) -> None:
        self.own = isinstance(target, str | Path)
        self.file: Any = (
            Path(target).open("w", encoding="utf-8")  # ruff: ignore[open-file-with-context-handler]
            if isinstance(target, str | Path)
            else target
        )
        self.timeline = Timeline()

    def begin(self, survey: Survey, about: Mapping[str, Any]) -> None:
        """Write what is known of the run."""
        sites = [site.name for site in survey.sites]
        self._line("run", {"about": dict(about), "sites": sites})

    def write(self, log: Log) -> None:
        """Write the numbers of a log."""
        numbers = {name: _number(value) for name, value in series(log).items()}
        told = {"step": log.step, "why": log.why, "seconds": round(log.seconds, 3)}
        self._line("log", told | {"series": numbers, "places": places(log)})

    def tell(self, step: int, findings: Sequence[Finding]) -> None:
        """Write what has changed among the findings."""
        for change in self.timeline.add(step, findings):
            self._line(change.kind, {"step": step} | _told(change.finding))

    def close(self) -> None:
        """Write that it is over."""
        self._line("end", {})
        if self.own:
            self.file.close()

    def _line(self, kind: str, facts: Mapping[str, Any]) -> None:
        line = json.dumps({"kind": kind, **facts}, allow_nan=False, default=str)
        self.file.write(line + "\n")
        self.file.flush()


def _told(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": (finding.severity or Severity.INFO).name.lower(),
        "site": finding.site,
        "message": finding.message,
        "cause": finding.cause,
        "advice": finding.remedy.advice,
        "evidence": {name: _number(v) for name, v in finding.evidence.items()},
    }


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None
