"""What every rule keeps: a complete card, and no number that is not evidence."""

import re
from string import Formatter

from plumbob.rule import limits, sections
from plumbob.types import Finding, Rule, Survey

SECTIONS = (
    "",
    "Why",
    "Evidence",
    "Args",
    "Remedy",
    "Allow when",
    "Example",
    "References",
)
# 0 and 1 belong to formulas ("z > 0"); other numbers are measured, or the section
# Evidence defines them ("a 95 % interval").
_NUMBER = re.compile(r"(?<![\w.])(?![01](?!\w|\.\w))\d(?:[\d.,]*\d)?")


def card(rule: Rule) -> list[str]:
    """Return what is wrong with a rule's code, name, docstring and thresholds."""
    faults = list[str]()
    if not re.fullmatch(r"[A-Z]{2,}\d{3}", rule.code):
        faults.append(f"code '{rule.code}' is not letters and three digits")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name):
        faults.append(f"name '{rule.name}' is not words-with-hyphens")
    parts = sections(rule.judge.__doc__)
    known = limits(rule)
    wanted = [title for title in SECTIONS if title != "Args" or known]
    if list(parts) != wanted:
        faults.append(f"docstring sections are {list(parts)}, expected {wanted}")
    faults += [f"section '{title}' is empty" for title in parts if not parts[title]]
    documented = re.findall(r"^(\w+):", parts.get("Args", ""), flags=re.MULTILINE)
    if documented != list(known):
        faults.append(f"Args documents {documented}, thresholds are {list(known)}")
    faults += [
        f"threshold '{name}' needs a default that is a number, a bool or a text"
        for name, value in known.items()
        if not isinstance(value, int | float | str)
    ]
    return faults


def loose_numbers(rule: Rule, finding: Finding, survey: Survey) -> list[str]:
    """Return the numbers that a finding tells and that are no evidence."""
    text = f"{finding.message} {finding.cause} {finding.remedy.advice}"
    literal = "".join(part[0] for part in Formatter().parse(text))
    for name in {site.name for site in survey.sites} | set(survey.tensors):
        literal = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", "", literal)
    defined = _NUMBER.findall(sections(rule.judge.__doc__)["Evidence"])
    return [number for number in _NUMBER.findall(literal) if number not in defined]


def hold(condition: bool, otherwise: str) -> None:
    """See to it that a law holds.

    Raises:
        AssertionError: it does not; the message is `otherwise`.
    """
    if not condition:
        raise AssertionError(otherwise)
