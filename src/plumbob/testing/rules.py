"""The laws of a rule that judges a model as it stands."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.mending.certify import certify
from plumbob.rule import findings
from plumbob.survey.measure import measure
from plumbob.survey.seen import seen
from plumbob.testing.cards import card, hold, loose_numbers
from plumbob.types import Finding, Needs, Rule, Safety, Survey
from plumbob.verbs.apply import apply


def check_rule(
    rule: Rule, *, leans: Mapping[str, Any], plumb: Mapping[str, Any]
) -> None:
    """Hold a rule to the laws of the house.

    Its card is complete; it fires on a net that leans and is silent on its healthy
    twin; it is pure; each number that it tells is evidence; a remedy that can be
    followed takes the finding away, and keeps the function where it says so; and
    measuring and mending a copy left models, gradients, modes, hooks, optimisers and
    random states as they were.

    Args:
        rule: the rule.
        leans: keyword arguments of `plumbob.check`, `model` at least, with the fault.
        plumb: the same without it.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    hold(not (faults := card(rule)), f"{rule.code}: {'; '.join(faults)}")
    survey = _measured(rule, plumb)
    silent = list(findings(rule, survey))
    hold(not silent, f"{rule.code} fires on the net that is plumb: {silent}")
    survey = _measured(rule, leans)
    found = list(findings(rule, survey))
    hold(bool(found), f"{rule.code} is silent on the net that leans")
    hold(
        repr(found) == repr(list(findings(rule, survey))),
        f"{rule.code} judges the same facts differently the second time",
    )
    for finding in rule.judge(survey):
        loose = loose_numbers(rule, finding, survey)
        hold(not loose, f"{rule.code} tells numbers that are no evidence: {loose}")
    for finding in found:
        _mends(rule, finding, leans)


def _measured(rule: Rule, case: Mapping[str, Any]) -> Survey:
    model = case["model"]
    held = case.get("optimizer")
    before = seen(model, held)
    survey = measure(**case, overfit=Needs.OVERFIT in rule.needs)
    same = seen(model, held) == before
    hold(same, f"measuring for {rule.code} changed the model or the optimiser")
    missing = rule.needs & ~survey.known
    hold(
        not missing,
        f"{rule.code} cannot judge a case: {missing.words} unknown {survey.unseen}",
    )
    return survey


def _mends(rule: Rule, finding: Finding, case: Mapping[str, Any]) -> None:
    """Follow a remedy on a copy: the finding is gone, the rest as it was."""
    if is_by_hand(rule, finding):
        return
    remedy, model, held = finding.remedy, case["model"], case.get("optimizer")
    before = seen(model, held)
    if remedy.safety is not Safety.CHANGES_TRAINING:
        act = partial(apply, finding, optimizer=held, in_place=True)
        proof = certify(model, act, case["data"], claim=remedy.safety)
        hold(proof.holds, f"the remedy of {rule.code} changes the function: {proof}")
    mended = apply(finding, model, optimizer=held)
    same = seen(model, held) == before
    hold(same, f"mending a copy for {rule.code} changed the model or the optimiser")
    now = dict(zip(("model", "optimizer"), mended, strict=True)) if held else {}
    survey = measure(
        **{**case, "model": mended} | now, overfit=Needs.OVERFIT in rule.needs
    )
    left = [f for f in findings(rule, survey) if f.site == finding.site]
    hold(not left, f"{rule.code} is still there after its remedy: {left}")
    refuse_strangers(rule, finding, held)


def is_by_hand(rule: Rule, finding: Finding) -> bool:
    """Return whether no act follows a remedy; what an act is given is plain."""
    remedy = finding.remedy
    # without an act it is `plumbob fix` that keeps the function, or nobody does it
    wrong = Safety.MANUAL if remedy.act else Safety.CHANGES_TRAINING
    hold(remedy.safety is not wrong, f"{rule.code}: safety and act disagree")
    if remedy.act:
        json.dumps(remedy.arguments, allow_nan=False)
    return remedy.act is None


def refuse_strangers(rule: Rule, finding: Finding, held: Any) -> None:
    """Hand a remedy to a model that is not its own.

    Raises:
        AssertionError: it is followed there.
    """
    stranger = nn.ModuleDict({"stranger": nn.Linear(1, 1)})
    try:
        apply(
            finding, stranger, optimizer=held and torch.optim.SGD(stranger.parameters())
        )
    except InputError:
        return
    raise AssertionError(f"the remedy of {rule.code} takes a model that is not its own")
