"""PB704: steps that are out of proportion to the weights they move."""

from collections.abc import Iterator

import numpy as np

from plumbob.progress import gained
from plumbob.rule import rule
from plumbob.travel import ratios, travellers
from plumbob.trends import middle
from plumbob.types import Finding, Needs, Remedy, Severity, Survey

BURST = 5  # measured steps; the length of a start, and the least that is judged
LEAST = 20  # steps of a training that has ended


@rule(
    "PB704",
    "update-ratio",
    Needs.HISTORY,
    Severity.WARNING,
    since="0.1",
    explains=("PB702", "PB711", "PB718"),
)
def update_ratio(
    survey: Survey,
    *,
    ratio_above: float = 1.0,
    start_above: float = 0.2,
    learnt_below: float = 0.9,
    ratio_below: float = 1e-6,
    gained_below: float = 0.2,
    steps_above: int = 100,
) -> Iterator[Finding]:
    """A step is longer than the weights that it moves, or next to nothing beside them.

    Why:
        A weight of size |w| that is moved by |dw| keeps what it was only while |dw| is
        the smaller one. A step as long as the weights themselves puts others in their
        place: the initialisation, and all that was learnt, is gone, units land where
        they are dead or saturated, and the loss may never come back from there. A step
        of a millionth takes a million of them, all one way, to make a difference, and
        float32 rounds off a share of it.

        Weights that began small, or at 0, are to grow: long steps are measured by the
        size that random weights of their map would have, one over the root of its
        inputs each, where that is more. Long first steps alone are no evidence: those
        of Adagrad and Adam are as long as the learning rate whatever the gradient, and
        a net may well learn from where they put it. So while a training goes on they
        are a warning only where next to nothing is learnt after a fair number of steps.
        Single parameters do either now and then, so it is the median over the weights
        of all maps. A model of a single map has no units to lose, and its first weights
        mean nothing; and one step of LBFGS is many: of these no step is too long here.

    Evidence:
        ratio: the median over maps of |dw| / |w| of their weights: the largest of any
        measured step; the median over the first measured steps; or over all of them.
        step: where it was largest. weights: how many were looked at. gained: the share
        of what was to be learnt that has been learnt.

    Args:
        ratio_above: a single step that is told: as long as the weights are.
        start_above: the median of the first five measured steps that is told: they
            have replaced the weights between them. Set after seeing 64 trainings: sound
            ones began with 0.1 at most.
        learnt_below: share of what was to be learnt below which long steps are a
            warning once the training has ended.
        ratio_below: median over steps that is told as next to nothing, if that of the
            first five is as small: later ones may be, where the loss has come to rest.
        gained_below: share of what was to be learnt below which it is a warning, as
            long steps are while the training goes on.
        steps_above: steps after which steps next to nothing are told, and long ones
            may be a warning. Their wait was set after seeing a sound Adagrad run warned
            of at step 50.

    Remedy:
        Lower the learning rate, or raise it. Info where the loss is not known, or the
        training learns all the same. A CNN on digits (15 epochs, three seeds): SGD at 5
        10 % right, as by guessing, and 100 % at a tenth of it; Adam at 0.1 (first
        steps of 0.3) 75-85 %, SGD at 0.1 97-99 %.

    Allow when:
        The first steps are meant to replace the weights.

    Example:
        >>> from nets_history_steps import update_ratio
        >>> from watched import codes
        >>> codes(update_ratio(leans=True)) & {"PB704"}
        {'PB704'}
        >>> codes(update_ratio(leans=False)) & {"PB704"}
        set()

    References:
        You et al. (2017), Large batch training of convolutional networks, section 4.
        Karpathy (2015), CS231n notes, Neural networks part 3, "Ratio of
        weights:updates".
    """
    history = survey.history
    assert history is not None
    moved = travellers(survey)
    known = [ratios(course, least) for course, least in moved.values()]
    if not known:
        return
    each = np.array(known)
    logs = np.flatnonzero(~np.isnan(each).all(0))
    if len(logs) < BURST:
        return
    ratio, steps = np.nanmedian(each[:, logs], axis=0), history.steps[logs]
    progress = gained(history)
    top, start = int(ratio.argmax()), float(np.median(ratio[:BURST]))
    evidence: dict[str, int | float] = {"weights": len(moved)}
    if progress is not None:
        evidence["gained"] = progress
    one = bool(ratio[top] > ratio_above)
    if (one or start > start_above) and len(moved) > 1 and not _many(survey):
        yield _long(
            evidence | {"ratio": float(ratio[top]) if one else start},
            at=int(steps[top]) if one else None,
            lost=progress is not None
            and not progress >= (learnt_below if history.over else gained_below)
            and history.taken >= (LEAST if history.over else steps_above),
        )
    every = np.array([ratios(course) for course, _ in moved.values()])[:, logs]
    usual, first = middle(every.ravel()), middle(every[:, :BURST].ravel())
    if not usual or first is None or max(usual, first) >= ratio_below:
        return
    if history.taken >= steps_above and (progress is None or progress < gained_below):
        yield _short(evidence | {"ratio": usual}, lost=progress is not None)


def _many(survey: Survey) -> bool:
    """Return whether the optimiser takes many steps in one."""
    return survey.optimizer is not None and "LBFGS" in survey.optimizer.name


def _long(evidence: dict[str, int | float], *, at: int | None, lost: bool) -> Finding:
    return Finding(
        message="the first steps are {ratio:.3g} times as long as the weights that "
        "they move, the median over them and the maps"
        if at is None
        else "step {step} is {ratio:.3g} times as long as the weights that it moves, "
        "the median over the maps",
        cause="the learning rate is too high for weights and gradients of this size: "
        "what the weights were before is gone",
        evidence=evidence if at is None else evidence | {"step": at},
        severity=None if lost else Severity.INFO,
        remedy=Remedy(
            advice="Lower the learning rate to a tenth; or warm it up over the first "
            "steps; or standardise what the model reads."
        ),
    )


def _short(evidence: dict[str, int | float], *, lost: bool) -> Finding:
    return Finding(
        message="a step is {ratio:.2g} times as long as the weights that it moves, the "
        "median over steps and maps",
        cause="the learning rate is too low for weights and gradients of this size",
        evidence=evidence,
        severity=None if lost else Severity.INFO,
        remedy=Remedy(
            advice="Raise the learning rate tenfold, again and again, while the loss "
            "still falls; or use an optimiser that divides by the gradient's size "
            "(Adam)."
        ),
    )
