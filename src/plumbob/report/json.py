"""A report for programs: one JSON object with a stable schema.

`version` grows when a field is renamed or removed, not when one is added. NaN and
infinite numbers, which JSON lacks, are null.
"""

import json
from typing import TYPE_CHECKING, Any

from plumbob.report.table import plain, rows, told
from plumbob.types import Output, Severity

if TYPE_CHECKING:
    from plumbob.report.report import Report

VERSION = 1


def render(report: "Report") -> str:
    """Return the report as indented JSON."""
    survey = report.survey
    settings = report.settings
    tree = {
        "version": VERSION,
        "about": {name: plain(value) for name, value in survey.about.items()},
        "counts": {s.name.lower(): report.counts[s] for s in reversed(Severity)},
        "findings": [told(finding) for finding in report.findings],
        "not_judged": dict(report.not_judged),
        "crashed": dict(report.crashed),
        "settings": {
            "select": settings.select,
            "ignore": settings.ignore,
            "per-site": dict(settings.per_site),
            "thresholds": {k: dict(v) for k, v in settings.thresholds.items()},
            "baseline": sorted(settings.baseline),
        },
        "output": _output(survey.output),
        "sites": rows(survey),
    }
    return json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False, default=str)


def _output(output: Output | None) -> dict[str, Any] | None:
    """Return what the best constant shift of the output saves, unit by unit."""
    if output is None:
        return None
    return {
        "site": output.site,
        "loss": plain(output.loss),
        "shifted": plain(output.shifted),
        "shift": [plain(value) for value in output.shift],
    }
