"""A report in full for a terminal: findings, causes, evidence, remedies, proofs."""

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.text import Text

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
    units,
)
from plumbob.types import Finding, Severity

if TYPE_CHECKING:
    from plumbob.report.report import Report

LABEL = 10  # columns: what a line that goes on is set in by, at most
_STYLE = {
    Severity.ERROR: "bold red",
    Severity.WARNING: "bold yellow",
    Severity.INFO: "bold blue",
}


def render(report: "Report", width: int = 80) -> str:
    """Return the report as plain text of at most `width` columns where words allow."""
    return drawing(report, width).plain


def drawing(report: "Report", width: int = 80) -> Text:
    """Return the report as styled text of at most `width` columns."""
    blocks = [_finding(f, others, width) for f, others in alike(report.findings)]
    if report.not_judged:
        blocks.append(_block("not judged:", report.not_judged, width))
    if report.crashed:
        blocks.append(_block("rules that crashed:", report.crashed, width))
    end = "\n".join(filter(None, (followed(report), summary(report))))
    blocks.append(Text(end, style="bold"))
    return Text("\n\n").join(blocks)


def _finding(finding: Finding, others: list[Finding], width: int) -> Text:
    lines = [_headline(finding)]
    lines += _wrapped(finding.message, width)
    if others:
        lines += _wrapped(places(others), width, label=f"{also(finding, others)}: ")
    if finding.units:
        lines += _wrapped(units(finding.units), width, label="units: ")
    lines += _wrapped(finding.cause, width, label="cause: ")
    lines += _wrapped(evidence(finding), width, label="evidence: ", style="dim")
    for i, step in enumerate(finding.steps, 1):
        label = "proof: " if i == 1 else "       "
        lines += _wrapped(f"{i}. {step}", width, label=label, style="dim")
    remedy = f"{finding.remedy.advice} [{safety(finding)}]"
    lines += _wrapped(remedy, width, label="help: ", bold=True)
    for consequence, more in explained([finding, *others]):
        head = Text("  explains: ") + _headline(consequence)
        lines += [head, *_wrapped(consequence.message, width, indent="    ")]
        if more:
            lines += _wrapped(places(more), width, indent="    ", label="also at: ")
    return Text("\n").join(lines)


def _headline(finding: Finding) -> Text:
    severity = finding.severity or Severity.INFO
    mark = f"{MARK[severity]} {severity.name.lower()}"
    return Text.assemble(
        (finding.code, "bold"),
        f" {finding.name}  ",
        (finding.site or "(model)", "bold"),
        "  ",
        (mark, _STYLE[severity]),
    )


def _block(title: str, reasons: Mapping[str, str], width: int) -> Text:
    lines = [Text(title, style="bold")]
    for names, reason in together(reasons):
        lines += _wrapped(f"{names}: {reason}", width, style="dim")
    return Text("\n").join(lines)


def _wrapped(
    text: str,
    width: int,
    *,
    indent: str = "  ",
    label: str = "",
    style: str = "",
    bold: bool = False,
) -> Iterator[Text]:
    form: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    margin = indent + " " * min(len(label), LABEL)
    for line in wrap(f"{indent}{label}{text}", width, subsequent_indent=margin, **form):
        drawn = Text(line, style=style)
        if label and line.startswith(indent + label):
            drawn.stylize("bold" if bold else "dim", 0, len(indent + label))
        yield drawn
