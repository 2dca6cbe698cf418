"""What makes a function a rule, and what turns its templates into findings."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from string import Formatter
from typing import Any

from plumbob.types import Finding, Needs, Proof, Rule, Severity, Survey
from plumbob.types.proofs import independent, leans

Judge = Callable[..., Iterator[Finding]]


def rule(
    code: str,
    name: str,
    needs: Needs,
    severity: Severity,
    *,
    since: str,
    explains: tuple[str, ...] = (),
    opt_in: bool = False,
) -> Callable[[Judge], Rule]:
    """Make a rule of a judge; it returns a value and registers nothing."""

    def wrap(judge: Judge) -> Rule:
        return Rule(
            code=code,
            name=name,
            needs=needs,
            severity=severity,
            since=since,
            judge=judge,
            explains=explains,
            opt_in=opt_in,
        )

    return wrap


def limits(rule: Rule) -> dict[str, Any]:
    """Return the rule's thresholds: its judge's keyword-only parameters."""
    parameters = inspect.signature(rule.judge).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def findings(rule: Rule, survey: Survey, **thresholds: Any) -> Iterator[Finding]:
    """Yield the rule's findings on a survey, signed and with their numbers filled in.

    Raises:
        ValueError: a finding is more severe than its rule.
    """
    for finding in rule.judge(survey, **thresholds):
        severity = rule.severity if finding.severity is None else finding.severity
        if severity > rule.severity:
            raise ValueError(f"{rule.code} yields {severity!r} above {rule.severity!r}")
        fill = _Numbers(finding.evidence).fill
        yield replace(
            finding,
            code=rule.code,
            name=rule.name,
            severity=severity,
            message=fill(finding.message),
            cause=fill(finding.cause),
            remedy=replace(finding.remedy, advice=fill(finding.remedy.advice)),
        )


def modules(parameters: Iterable[str], most: int = 4) -> str:
    """Return the modules of parameters, for a template: "fc1, fc2 and 3 more"."""
    names = list(dict.fromkeys(p.rpartition(".")[0] or p for p in parameters))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more).replace("{", "{{").replace("}", "}}")


def proved(survey: Survey, proofs: Sequence[Proof]) -> dict[str, int | float]:
    """Return the numbers of proofs about rows of one parameter, as far as known.

    elements: how many values; largest: the largest size among all the parameter's;
    error: the largest of the proofs' tests.
    """
    numbers: dict[str, int | float] = {
        "elements": sum(high - low for low, high in (p.rows for p in proofs))
    }
    if tensor := survey.tensors.get(proofs[0].parameter):
        numbers["largest"] = max(abs(tensor.low), abs(tensor.high))
    errors = [p.error for p in proofs if p.error is not None]
    if len(errors) == len(proofs):
        numbers["error"] = max(errors)
    return numbers


def loose(survey: Survey) -> Iterator[Proof]:
    """Yield the theorems along whose directions there is something left to take.

    What has been given up to a parameter does not carry it in turn.
    """
    given: dict[str, set[str]] = {}
    for proof in survey.settled:
        given.setdefault(proof.parameter, set()).update(proof.carriers)
    for proof in survey.proofs:
        back = any(leans(name, proof.parameter, given) for name in proof.carriers)
        if proof not in survey.settled and not back:
            yield proof


def by_parameter(proofs: Iterable[Proof]) -> dict[str, list[Proof]]:
    """Return theorems by their parameter; of gauges that carry one another, one.

    Of b_ih and b_hh, say, either can carry the other: that is one redundancy.
    """
    every = list(proofs)
    trained = independent(every, "training")
    only_run = independent([p for p in every if p.training is None], "inference")
    found: dict[str, list[Proof]] = {}
    for proof in (*trained, *only_run):
        found.setdefault(proof.parameter, []).append(proof)
    return found


def told(proofs: Iterable[Proof]) -> tuple[str, ...]:
    """Return the verdict on each mode, then the steps of the proofs, each once."""
    words = {
        "null": "null, nothing sees it",
        "gauge": "a gauge, other parameters can carry it",
        None: "not proved, so it may count",
    }
    lines = list[str]()
    for proof in proofs:
        verdict = f"in training {words[proof.training]}"
        lines += [f"{verdict}; in inference {words[proof.inference]}", *proof.steps]
    return tuple(dict.fromkeys(lines))


def sections(docstring: str | None) -> dict[str, str]:
    """Split a Google-style docstring: {"": first sentence(s), "Why": ..., ...}."""
    parts: dict[str, str] = {}
    title, lines = "", list[str]()
    for line in [*inspect.cleandoc(docstring or "").splitlines(), "End:"]:
        if re.fullmatch(r"[A-Z][A-Za-z ]+:", line):
            parts[title] = inspect.cleandoc("\n".join(lines)).strip()
            title, lines = line[:-1], []
        else:
            lines.append(line)
    return parts


class _Numbers(Formatter):
    """`str.format` over evidence: four significant digits unless a form is given.

    The form `one|many` gives the word that goes with the number: "{n} {n:unit|units}
    {n:is|are} dead" with n = 1 is "1 unit is dead".
    """

    def __init__(self, evidence: Mapping[str, int | float]) -> None:
        self.evidence = evidence

    def fill(self, template: str) -> str:
        return self.vformat(template, (), self.evidence)

    def format_field(self, value: Any, format_spec: str) -> str:
        if "|" in format_spec:
            one, many = format_spec.split("|")
            return one if value == 1 else many
        if isinstance(value, float) and not format_spec:
            whole = value.is_integer() and abs(value) < 1e15
            format_spec = ",.0f" if whole else ".4g"
        return format(value, format_spec)
