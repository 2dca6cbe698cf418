"""A report as workflow commands: annotations of a GitHub Actions run."""

from typing import TYPE_CHECKING

from plumbob.report.words import summary
from plumbob.types import Finding, Severity

if TYPE_CHECKING:
    from plumbob.report.report import Report

_LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(report: "Report") -> str:
    """Return one annotation per finding and crashed rule, and the summary."""
    lines = [_command(finding) for finding in report.findings]
    for code, error in report.crashed.items():
        title = _escaped(f"plumbob ({code}) crashed", ":,")
        lines.append(f"::error title={title}::{_escaped(error)}")
    return "\n".join([*lines, summary(report)])


def _command(finding: Finding) -> str:
    level = _LEVEL[finding.severity or Severity.INFO]
    title = _escaped(f"plumbob ({finding.code}) {finding.name}", ":,")
    text = (
        f"{finding.site or 'model'}: {finding.message}\n{finding.cause}\n"
        f"help: {finding.remedy.advice}"
    )
    return f"::{level} title={title}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    """Escape what would end a command or one of its properties."""
    for sign in "%\r\n" + more:
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
