"""`rule` and `rules`: a rule's card, read from its docstring."""

import textwrap
from collections.abc import Mapping

from plumbob.errors import SettingsError, did_you_mean
from plumbob.rule import limits, sections
from plumbob.types import Rule
from plumbob.verbs.shelf import shelf

_TITLES = ("Why", "Evidence", "Remedy", "Allow when", "Example", "References")


def explain(word: str) -> str:
    """Return the card of a rule as text.

    Raises:
        SettingsError: there is no such rule.
    """
    rules = shelf()
    for rule in rules:
        if word.upper() == rule.code or word.lower() == rule.name:
            return _card(rule)
    hint = did_you_mean(word.lower(), [rule.name for rule in rules])
    raise SettingsError(
        f"There is no rule '{word}'.{hint or ' `plumbob rules` lists them all.'}"
    )


def listing() -> str:
    """Return a table of all rules as text."""
    rows = [
        (rule.code, rule.name, rule.severity.name.lower(), _first(rule))
        for rule in shelf()
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  ".join([
            *(cell.ljust(w) for cell, w in zip(row, widths, strict=False)),
            row[3],
        ])
        for row in rows
    )


def _card(rule: Rule) -> str:
    parts = sections(rule.judge.__doc__)
    lines = [
        f"{rule.code} {rule.name}  (at most {rule.severity.name.lower()}, needs "
        f"{', '.join(rule.needs.words)}, since {rule.since}"
        f"{', only where selected' if rule.opt_in else ''})",
        "",
        parts[""],
    ]
    for title in _TITLES:
        if title == "Remedy":
            lines += _thresholds(rule, parts)
        if title in parts:
            lines += ["", f"{title}:", textwrap.indent(parts[title], "  ")]
    return "\n".join(lines)


def _thresholds(rule: Rule, parts: Mapping[str, str]) -> list[str]:
    known = limits(rule)
    if not known:
        return []
    defaults = (f"{rule.code}.{name} = {value}" for name, value in known.items())
    return [
        "",
        "Thresholds (--set CODE.threshold=value), by default:",
        *(f"  {line}" for line in defaults),
        textwrap.indent(parts.get("Args", ""), "  "),
    ]


def _first(rule: Rule) -> str:
    return sections(rule.judge.__doc__)[""].split("\n\n")[0].replace("\n", " ")
