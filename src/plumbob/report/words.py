"""What all formats say alike: marks, counts, evidence, lists of names."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from plumbob.types import Finding, Safety, Severity

if TYPE_CHECKING:
    from plumbob.report.report import Report

# Never colour alone: warning and error look alike to some, and on paper.
MARK = {Severity.ERROR: "x", Severity.WARNING: "!", Severity.INFO: "i"}

_SAFETY = {
    Safety.EXACT: "exact",
    Safety.EVAL_ONLY: "exact in inference only",
    Safety.CHANGES_TRAINING: "changes training",
    Safety.MANUAL: "by hand",
}
_LISTED = 8
_NUMBER = re.compile(r"[-+]?(\d[\d.,]*(e[-+]?\d+)?|\b(nan|inf)\b)")


def summary(report: "Report") -> str:
    """Return one sentence on how much was found."""
    errors, warnings, infos = (report.counts[s] for s in sorted(Severity, reverse=True))
    parts = [_many(n, w) for n, w in ((errors, "error"), (warnings, "warning")) if n]
    if parts:
        found = f"Found {_many(errors + warnings, 'problem')} ({', '.join(parts)})"
    else:
        found = "Found no problems"
    notes = f" and {_many(infos, 'note')} (info)" if infos else ""
    return f"{found}{notes}."


def followed(report: "Report") -> str:
    """Return how many remedies can be followed by a call; "" where none can."""
    able = sum(finding.remedy.act is not None for finding in report.findings)
    of = len(report.findings)
    return f"plumbob.apply follows {able} of {_many(of, 'remedy')}." if able else ""


def safety(finding: Finding) -> str:
    """Return what following the remedy may break."""
    return _SAFETY[finding.remedy.safety]


def number(value: float | int) -> str:
    """Return a number with four significant digits."""
    if not math.isfinite(value) or value != int(value) or abs(value) >= 1e15:
        return f"{value:.4g}"
    return f"{int(value):,}"


def figure(value: float | int) -> str:
    """Return a number as `number` does, with a true minus, for a page."""
    return number(value).replace("-", "\N{MINUS SIGN}")


def evidence(finding: Finding) -> str:
    """Return the evidence as "name number, name number"."""
    return ", ".join(f"{k} {number(v)}" for k, v in finding.evidence.items())


def units(numbers: tuple[int, ...]) -> str:
    """Return unit numbers with runs joined, "1, 4-7, 9", the first few of many."""
    runs: list[list[int]] = []
    for unit in sorted(numbers):
        if runs and unit == runs[-1][1] + 1:
            runs[-1][1] = unit
        else:
            runs.append([unit, unit])
    return _few([f"{a}" if a == b else f"{a}-{b}" for a, b in runs])


def together(reasons: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield names that share a reason as one, with the reason."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    for reason, sharing in names.items():
        yield _few(sharing), reason


def alike(findings: Iterable[Finding]) -> Iterator[tuple[Finding, list[Finding]]]:
    """Yield the first of findings that say the same but for numbers, and the others.

    Names of layers differ by numbers as well: "carried by layers.3.norm".
    """
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for f in findings:
        words = (_NUMBER.sub("#", text) for text in (f.message, f.cause))
        said = (f.code, f.severity, f.remedy.safety, *words)
        groups.setdefault(said, []).append(f)
    for first, *others in groups.values():
        yield first, others


def also(first: Finding, others: Iterable[Finding]) -> str:
    """Return the words before the places of findings that are like the first."""
    said = {(f.message, f.cause) for f in (first, *others)}
    return "also at" if len(said) == 1 else "also at, with numbers of their own"


def explained(findings: Iterable[Finding]) -> Iterator[tuple[Finding, list[Finding]]]:
    """Yield the first of each code that findings explain, and its others."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        for consequence in finding.consequences:
            groups.setdefault(consequence.code, []).append(consequence)
    for first, *others in groups.values():
        yield first, others


def places(findings: Iterable[Finding]) -> str:
    """Return where findings are, the first few of many."""
    return _few([f.site or "(model)" for f in findings])


def _few(words: list[str]) -> str:
    more = len(words) - _LISTED
    shown = ", ".join(words[:_LISTED])
    return f"{shown} and {more} more" if more > 0 else shown


def _many(count: int, word: str) -> str:
    if count != 1:
        word = f"{word.removesuffix('y')}ies" if word.endswith("y") else f"{word}s"
    return f"{count} {word}"
