"""The laws that every rule keeps, for rules of your own too.

from plumbob.testing import check_rule

def test_my_rule():
    check_rule(my_rule, leans={"model": bad, "data": x}, plumb={"model": good})
"""

import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

import numpy as np
import torch
from torch import nn

from plumbob.rule import findings, limits, sections
from plumbob.survey.measure import measure
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


def check_rule(
    rule: Rule, *, leans: Mapping[str, Any], plumb: Mapping[str, Any]
) -> None:
    """Hold a rule to the laws of the house.

    Its card is complete; it fires on a net that leans and is silent on its healthy
    twin; it is pure; each number that it tells is evidence; and measuring left
    models, gradients, modes, hooks and random states as they were.

    Args:
        rule: the rule.
        leans: keyword arguments of `plumbob.check`, `model` at least, with the fault.
        plumb: the same without it.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    _hold(not (faults := card(rule)), f"{rule.code}: {'; '.join(faults)}")
    survey = _measured(rule, plumb)
    silent = list(findings(rule, survey))
    _hold(not silent, f"{rule.code} fires on the net that is plumb: {silent}")
    survey = _measured(rule, leans)
    found = list(findings(rule, survey))
    _hold(bool(found), f"{rule.code} is silent on the net that leans")
    _hold(
        repr(found) == repr(list(findings(rule, survey))),
        f"{rule.code} judges the same facts differently the second time",
    )
    for finding in rule.judge(survey):
        loose = _loose_numbers(rule, finding, survey)
        _hold(not loose, f"{rule.code} tells numbers that are no evidence: {loose}")


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


def _measured(rule: Rule, case: Mapping[str, Any]) -> Survey:
    model = case["model"]
    before = _state(model)
    survey = measure(**case)
    _hold(_state(model) == before, f"measuring for {rule.code} changed the model")
    missing = rule.needs & ~survey.known
    _hold(
        not missing,
        f"{rule.code} cannot judge a case: {missing.words} unknown {survey.unseen}",
    )
    return survey


def _state(model: nn.Module) -> list[object]:
    """Return everything of a model and the process that may be seen, to compare.

    But for Python's own random state: beartype, where it is on, draws from it.
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    tensors += [(f"{name}.grad", p.grad) for name, p in tensors if p.grad is not None]
    modules = list(model.modules())
    numbers = np.random.get_state()
    return [
        [(name, id(t), t.dtype, t.requires_grad, _bytes(t)) for name, t in tensors],
        [module.training for module in modules],
        [
            [list(hooks) for name, hooks in vars(module).items() if "_hooks" in name]
            for module in modules
        ],
        [part.tobytes() if isinstance(part, np.ndarray) else part for part in numbers],
        _bytes(torch.get_rng_state()),
    ]


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _loose_numbers(rule: Rule, finding: Finding, survey: Survey) -> list[str]:
    text = f"{finding.message} {finding.cause} {finding.remedy.advice}"
    literal = "".join(part[0] for part in Formatter().parse(text))
    for name in {site.name for site in survey.sites} | set(survey.tensors):
        literal = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", "", literal)
    defined = _NUMBER.findall(sections(rule.judge.__doc__)["Evidence"])
    return [number for number in _NUMBER.findall(literal) if number not in defined]


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
