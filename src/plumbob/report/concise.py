"""A report with one line a finding."""

from typing import TYPE_CHECKING

from plumbob.report.words import MARK, explained, places, summary
from plumbob.types import Finding, Severity

if TYPE_CHECKING:
    from plumbob.report.report import Report


def render(report: "Report") -> str:
    """Return a line per finding, one per code that it explains, and the summary."""
    lines = list[str]()
    for finding in report.findings:
        lines.append(_line(finding))
        for consequence, others in explained([finding]):
            also = f" (also at: {places(others)})" if others else ""
            lines.append(f"  {_line(consequence)}{also}")
    lines += [f"{code}: crashed: {error}" for code, error in report.crashed.items()]
    if report.not_judged:
        lines.append(f"Not judged: {len(report.not_judged)} (--format text says why).")
    return "\n".join([*lines, summary(report)])


def _line(finding: Finding) -> str:
    severity = finding.severity or Severity.INFO
    mark = f"{MARK[severity]} {severity.name.lower()}"
    message = " ".join(finding.message.split())
    return (
        f"{finding.site or '(model)'}: {finding.code} {finding.name} {mark}: {message}"
    )
