"""A report as Markdown, for a pull request or a step's summary."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from plumbob.report.words import (
    MARK,
    alike,
    also,
    evidence,
    explained,
    followed,
    places,
    safety,
    summary,
    together,
)
from plumbob.types import Finding, Severity

if TYPE_CHECKING:
    from plumbob.report.report import Report


def render(report: "Report") -> str:
    """Return the report: a table of findings, each in full, what was not judged."""
    return "\n".join(_lines(report))


def _lines(report: "Report") -> Iterator[str]:
    yield f"# plumbob\n\n{summary(report)} {followed(report)}".rstrip()
    if report.findings:
        yield "\n| | code | site | |\n|---|---|---|---|"
        for finding, others in alike(report.findings):
            more = f" and {len(others)} more" if others else ""
            yield (
                f"| {_mark(finding)} | {finding.code} {finding.name} | "
                f"{_code(finding.site)}{more} | {_escaped(finding.message)} |"
            )
    for finding, others in alike(report.findings):
        yield f"\n## {finding.code} {finding.name}: {_code(finding.site)}\n"
        yield f"{_mark(finding)}: {_escaped(finding.message)}\n"
        if others:
            label = also(finding, others).capitalize()
            yield f"- **{label}**: {_escaped(places(others))}"
        yield f"- **Cause**: {_escaped(finding.cause)}"
        yield f"- **Evidence**: {_escaped(evidence(finding))}"
        yield f"- **Help**: {_escaped(finding.remedy.advice)} ({safety(finding)})"
        if finding.steps:
            yield "- **Proof**:"
        for i, step in enumerate(finding.steps, 1):
            yield f"  {i}. {_escaped(step)}"
        for other, more in explained([finding, *others]):
            yield (
                f"- Explains {other.code} {other.name} at {_code(other.site)}: "
                f"{_escaped(other.message)}"
                + (f" (also at: {_escaped(places(more))})" if more else "")
            )
    for title, reasons in (
        ("Not judged", report.not_judged),
        ("Rules that crashed", report.crashed),
    ):
        if reasons:
            yield f"\n## {title}\n"
            for names, reason in together(reasons):
                yield f"- {_escaped(names)}: {_escaped(reason)}"


def _mark(finding: Finding) -> str:
    severity = finding.severity or Severity.INFO
    return f"{MARK[severity]} {severity.name.lower()}"


def _code(site: str | None) -> str:
    return f"`{site.replace('`', '')}`" if site else "(model)"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", " ".join(text.split()))
