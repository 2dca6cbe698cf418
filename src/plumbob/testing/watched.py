"""The laws of a rule that judges a running training."""

from dataclasses import replace

import numpy as np

from plumbob.rule import findings
from plumbob.survey.seen import seen
from plumbob.testing.cards import card, hold, loose_numbers
from plumbob.testing.rules import is_by_hand, refuse_strangers
from plumbob.types import Finding, History, Rule, Survey
from plumbob.verbs.apply import apply
from plumbob.watching.watch import Watch


def check_watched_rule(rule: Rule, *, leans: Watch, plumb: Watch) -> None:
    """Hold a rule of the history of a run to the laws of the house.

    Its card is complete; it fires on a run that leans and is silent on its healthy
    twin, and where nothing has been measured yet; it is pure; each number that it tells
    is evidence; a remedy that can be followed is, on a copy, and by no other model.

    Args:
        rule: the rule.
        leans: a closed watch of a training with the fault.
        plumb: the same without it.

    Raises:
        AssertionError: a law is broken; the message says which.
    """
    hold(not (faults := card(rule)), f"{rule.code}: {'; '.join(faults)}")
    silent = list(findings(rule, _judged(rule, plumb)))
    hold(not silent, f"{rule.code} fires on the run that is plumb: {silent}")
    survey = _judged(rule, leans)
    found = list(findings(rule, survey))
    hold(bool(found), f"{rule.code} is silent on the run that leans")
    hold(
        repr(found) == repr(list(findings(rule, survey))),
        f"{rule.code} judges the same facts differently the second time",
    )
    early = list(findings(rule, _before_the_first_step(survey)))
    hold(not early, f"{rule.code} fires before anything is measured: {early}")
    for finding in rule.judge(survey):
        loose = loose_numbers(rule, finding, survey)
        hold(not loose, f"{rule.code} tells numbers that are no evidence: {loose}")
    for finding in found:
        if not is_by_hand(rule, finding):
            _mends(rule, finding, leans)


def _mends(rule: Rule, finding: Finding, watch: Watch) -> None:
    before = seen(watch.model, watch.optimizer)
    apply(finding, watch.model, optimizer=watch.optimizer)
    same = seen(watch.model, watch.optimizer) == before
    hold(same, f"mending a copy for {rule.code} changed the model or the optimiser")
    refuse_strangers(rule, finding, watch.optimizer)


def _judged(rule: Rule, watch: Watch) -> Survey:
    hold(watch.over, f"{rule.code}: the watch of a case is still open")
    survey = watch.judged
    assert survey is not None
    hold(not watch.unseen, f"watching for {rule.code} went wrong: {watch.unseen}")
    missing = rule.needs & ~survey.known
    hold(
        not missing,
        f"{rule.code} cannot judge a case: {missing.words} unknown {survey.unseen}",
    )
    return survey


def _before_the_first_step(survey: Survey) -> Survey:
    nothing = History(steps=np.zeros(0, np.int64))
    return replace(survey, history=nothing, readings={}, gradients={}, first_break=None)
