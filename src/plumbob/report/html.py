"""A report as one page of HTML that needs no network and no script."""

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from plumbob.report.strip import strip
from plumbob.report.table import rows
from plumbob.report.words import (
    MARK,
    alike,
    also,
    evidence,
    explained,
    followed,
    number,
    places,
    safety,
    summary,
    together,
    units,
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
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    table = rows(report.survey)
    shown = {k: v for k, v in _COLUMNS.items() if any(r[k] is not None for r in table)}
    return environment.get_template("report.html.j2").render(
        report=report,
        entries=_entries(report),
        places=places,
        also=also,
        explained=explained,
        about=dict(report.survey.about),
        summary=summary(report),
        followed=followed(report),
        strip=strip(report.survey, table, report.findings),
        rows=table,
        columns=shown,
        mark=MARK,
        evidence=evidence,
        number=number,
        safety=safety,
        units=units,
        not_judged=list(together(report.not_judged)),
        crashed=dict(report.crashed),
    )


def _entries(report: "Report") -> list[tuple[list[int], Finding, list[Finding]]]:
    """Return what is told once, with the numbers of all findings that it tells."""
    numbers = {id(finding): i for i, finding in enumerate(report.findings, 1)}
    return [
        ([numbers[id(f)] for f in (first, *others)], first, others)
        for first, others in alike(report.findings)
    ]
