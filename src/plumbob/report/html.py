"""A report as one page of HTML that needs no network and no script."""

from typing import TYPE_CHECKING

from plumbob.report.page import facts, page
from plumbob.report.strip import strip
from plumbob.report.table import rows
from plumbob.report.words import (
    MARK,
    alike,
    also,
    explained,
    followed,
    summary,
    together,
)
from plumbob.types import Finding

if TYPE_CHECKING:
    from plumbob.report.report import Report

_COLUMNS = {
    "out": "out",
    "fan_in": "in",
    "weight_sd": "sd of w",
    "bias_low": "b from",
    "bias_high": "b to",
    "beta_low": "beta from",
    "beta_high": "beta to",
    "sd_median": "sd of z",
    "firing_low": "fires from",
    "firing_high": "fires to",
}


def render(report: "Report") -> str:
    """Return the report as a page."""
    table = rows(report.survey)
    shown = {k: v for k, v in _COLUMNS.items() if any(r[k] is not None for r in table)}
    return page(
        "report.html.j2",
        {
            "report": report,
            "worst": report.worst.name.lower() if report.worst else "ok",
            "entries": _entries(report),
            "also": also,
            "explained": explained,
            "about": facts(report.survey.about),
            "summary": summary(report),
            "followed": followed(report),
            "strip": strip(report.survey, table, report.findings),
            "rows": table,
            "columns": shown,
            "mark": MARK,
            "not_judged": [*together(report.not_judged)],
            "crashed": dict(report.crashed),
        },
    )


def _entries(report: "Report") -> list[tuple[list[int], Finding, list[Finding]]]:
    """Return what is told once, with the numbers of all findings that it tells."""
    numbers = {id(finding): i for i, finding in enumerate(report.findings, 1)}
    return [
        ([numbers[id(f)] for f in (first, *others)], first, others)
        for first, others in alike(report.findings)
    ]
