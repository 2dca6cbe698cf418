"""PB715: parameters that the steps of a run leave as they are."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from plumbob.progress import gained
from plumbob.rule import modules, rule
from plumbob.types import Course, Finding, Needs, Remedy, Severity, Survey

LEARNT = 0.9  # of what was to be learnt: then what stands still may
FALLEN = 1e-3  # of its largest: a gradient that has come to 0 but for rounding


@rule(
    "PB715",
    "parameter-never-moves",
    Needs.HISTORY | Needs.OPTIMIZER,
    Severity.ERROR,
    since="0.1",
    explains=("PB702", "PB704", "PB711", "PB718"),
)
def parameter_never_moves(survey: Survey, *, logs_above: int = 3) -> Iterator[Finding]:
    """Parameters get gradients, or should, and no step of the optimiser moves them.

    Why:
        What trains is what gets a gradient, is held by the optimiser, and is moved by
        its step. Each link breaks in silence:

        - the optimiser holds other tensors than those that the loss reaches: it was
          made before the model was copied, converted or a layer of it replaced. An
          error where it holds none of what gets a gradient, a warning where it lacks
          some of it;
        - what it holds is frozen, or lies off the path to the loss, and never gets a
          gradient: an error where that is all, else info;
        - a step changes not one bit of what has a gradient and a learning rate: it is
          rounded off in half precision, or the step does nothing at all (it was
          compiled for a case without gradients, say). An error where it is so for all
          parameters, a warning where for most values, else info. Not where the gradient
          has fallen to a thousandth of what it was: a loss of all data at once comes to
          rest at its lowest point, and there float32 rounds the steps off.

        But for that no threshold beside the number of measured steps: these are facts.

    Evidence:
        parameters: how many, of `of`; values: how many numbers they hold. logs: how
        many measured steps. foreign: how many parameters the optimiser holds that are
        not this model's.

    Args:
        logs_above: measured steps, the last ones, at all of which nothing changes; two
            are enough to see what the optimiser holds and what has a gradient.

    Remedy:
        Make the optimiser from the parameters that the training uses, after the last
        change to the model; unfreeze what is to learn; keep the weights in float32
        under autocast. An MLP on digits (Adam, 10 epochs, three seeds): 96 % right,
        and 8-12 %, as by guessing, where the optimiser held those of a copy.

    Allow when:
        Another optimiser, which the watch was not given, moves them.

    Example:
        >>> from nets_history_steps import parameter_never_moves
        >>> from watched import codes
        >>> codes(parameter_never_moves(leans=True)) & {"PB715"}
        {'PB715'}
        >>> codes(parameter_never_moves(leans=False)) & {"PB715"}
        set()

    References:
        PyTorch documentation, torch.optim, "Constructing it".
        Micikevicius et al. (2018), Mixed precision training, section 3.1.
    """
    assert survey.history is not None
    assert survey.optimizer is not None
    courses = {
        name: course
        for name, course in survey.history.courses.items()
        if len(course.size) > 1
    }
    held = {n: c for n, c in courses.items() if np.isfinite(c.lr).any()}
    pulled = {n: c for n, c in held.items() if (c.gradient > 0).any()}
    lost = {n: c for n in survey.history.unheld if (c := courses.get(n)) is not None}
    evidence: dict[str, int | float] = {}
    if lost and all(_rests(course) for course in lost.values()):
        foreign = sum(
            name not in survey.history.courses
            for group in survey.optimizer.groups
            for name in group.parameters
        )
        yield _lost(lost, pulled | lost, evidence | {"foreign": foreign})
    if bare := {n: c for n, c in held.items() if np.isnan(c.gradient).all()}:
        yield _bare(bare, held, evidence)
    if still := {n: c for n, c in pulled.items() if _stands(c, logs_above)}:
        progress = gained(survey.history)
        if progress is None or not progress >= LEARNT:
            yield _still(still, pulled, {"logs": logs_above + 1})


def _rests(course: Course) -> bool:
    """Return whether its size was the same throughout.

    Else somebody else moves it: an optimiser's own copy of the weights, say.
    """
    return bool((course.size == course.size[0]).all())


def _told(
    some: Mapping[str, Course], of: Mapping[str, Course]
) -> dict[str, int | float]:
    return {
        "parameters": len(some),
        "of": len(of),
        "values": sum(course.numel for course in some.values()),
    }


def _lost(
    lost: Mapping[str, Course],
    pulled: Mapping[str, Course],
    evidence: dict[str, int | float],
) -> Finding:
    every = len(lost) == len(pulled)
    return Finding(
        site=next(iter(lost)),
        message="{parameters} of {of} {of:parameter|parameters} with a gradient "
        "({values} {values:number|numbers}) {parameters:is|are} in no optimiser: "
        + modules(lost),
        cause="the optimiser holds nothing that the loss reaches, but {foreign} "
        "{foreign:parameter|parameters} of something else: it was made before the "
        "model was copied, converted or changed"
        if every and evidence["foreign"]
        else "the optimiser holds nothing that the loss reaches"
        if every
        else "{parameters:it was|they were} made, replaced or unfrozen after the "
        "optimiser was, or left out of it",
        evidence=evidence | _told(lost, pulled),
        severity=None if every else Severity.WARNING,
        remedy=Remedy(
            advice="Make the optimiser from model.parameters() after the last change "
            "to the model; or hand them to it with add_param_group; or call "
            "requires_grad_(False) on what is not to learn."
        ),
    )


def _bare(
    bare: Mapping[str, Course],
    held: Mapping[str, Course],
    evidence: dict[str, int | float],
) -> Finding:
    every = len(bare) == len(held)
    return Finding(
        site=next(iter(bare)),
        message="{parameters} of {of} {of:parameter|parameters} that the optimiser "
        "holds ({values} {values:number|numbers}) never got a gradient: "
        + modules(bare),
        cause="{parameters:it is|they are} frozen, or not on the path to the loss",
        evidence=evidence | _told(bare, held),
        severity=None if every else Severity.INFO,
        remedy=Remedy(
            advice="Call requires_grad_(True) on what is to learn, before the "
            "optimiser is made; or use it in the loss; or take it out of the groups."
        ),
    )


def _stands(course: Course, logs_above: int) -> bool:
    """Return whether none of the last steps changed one bit, though each was to.

    Where the learning rate or the gradient is down to next to nothing a step may be
    rounded off; where w.g is 0 the part that is measured may have no gradient.
    """
    lr = course.lr[np.isfinite(course.lr)]
    finite = np.isfinite(course.gradient)
    largest = course.gradient[finite].max(initial=0.0)
    due: Bool[Any, " logs"] = (
        finite
        & (course.gradient > FALLEN * largest)
        & (course.pull != 0)
        & (course.lr > 0.01 * lr.max())
    )
    return (
        int(due.sum()) > logs_above and not course.change[due][-logs_above - 1 :].any()
    )


def _still(
    still: Mapping[str, Course],
    moved: Mapping[str, Course],
    evidence: dict[str, int | float],
) -> Finding:
    every = len(still) == len(moved)
    numbers = _told(still, moved)
    most = numbers["values"] > sum(c.numel for c in moved.values()) / 2
    return Finding(
        site=next(iter(still)),
        message="{parameters} of {of} {of:parameter|parameters} with a gradient "
        "({values} {values:number|numbers}) did not change by one bit in the last "
        "{logs} measured steps: " + modules(still),
        cause="the optimiser's step does nothing, or each is rounded off in the "
        "precision of the weights"
        if every
        else "each step is rounded off in the precision of the weights, or leaves "
        "{parameters:it|them} out",
        evidence=evidence | numbers,
        severity=None if every else Severity.WARNING if most else Severity.INFO,
        remedy=Remedy(
            advice="Look at what happens between backward() and step(), without "
            "torch.compile around them; or keep the weights in float32 and compute "
            "under torch.autocast; or raise the learning rate."
        ),
    )
