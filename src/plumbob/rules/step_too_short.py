"""PB716: steps that are too short to get anywhere."""

from collections.abc import Iterator
from math import inf
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.progress import gained
from plumbob.rule import rule
from plumbob.travel import path, travellers
from plumbob.types import Course, Finding, History, Needs, Remedy, Severity, Survey

LOGS = 5  # measured steps before anything is said
LEAST = 20  # steps, also where the training has ended
USUAL = 1e-6  # epsilons in use are smaller
FALLEN = 1e-3  # of its largest: a learning rate that a schedule has taken away


@rule(
    "PB716",
    "step-too-short",
    Needs.HISTORY,
    Severity.ERROR,
    since="0.1",
    explains=("PB702", "PB704", "PB711", "PB718"),
)
def step_too_short(
    survey: Survey,
    *,
    path_below: float = 0.1,
    gained_below: float = 0.2,
    steps_above: int = 200,
    swallowed_above: float = 0.9,
    swallows_below: float = 0.5,
    large_above: float = 10.0,
) -> Iterator[Finding]:
    """The steps are so short that the weights stay where they began.

    Why:
        If the lengths of all steps together, in units of the weight's own size, come to
        a few hundredths, then the weights are still the initial ones to within a few
        hundredths, whatever the directions. So little is enough where nearly all has
        been learnt before, as by a model that is tuned; elsewhere it is not. It is info
        where the best constant's loss is not known, which tells them apart. The
        gradient tells whether the loss could fall: g.dw is what a step promises. Where
        what is left is more than all steps so far again could bring, at that promise,
        the step is too short, not the goal reached.

        Beside weights that were drawn far too large any step is short: where the same
        steps would have been long enough beside random weights of the usual size, one
        over the root of the inputs each, that is told as the cause, and as info.

        - A learning rate of 0, or what a schedule has left of it: stepped once a batch
          instead of once an epoch, say. Exact, and an error where it was never above.
        - Adam's epsilon above the root of the second moment: the step is then lr
          g / eps, not lr, and falls with the gradient. Where eps is larger than usual
          that is its doing, else the gradient is too small. As this is exact, it is
          told of an eps that is larger than usual also while the loss falls, if the
          steps so far again could not bring what is left.

        A warm-up in its beginning is not meant: while the learning rate rises it is
        waited for.

    Evidence:
        lr: at the last measured step; highest: the largest of any; logs: how many were
        measured with it. path: of the weight that went farthest, the sum of |dw| / |w|
        over `steps` steps. promise: what a step promises to take off the loss, the
        median over the later ones; needed: how many such steps would bring it from
        `loss` to its floor. gained: the share of what was to be learnt that has been
        learnt. eps: Adam's; swallowed: the share of elements whose second moment's root
        is below it, the median over parameters. times: how many times as large as usual
        the weights are, the median over maps, where that is what makes the path short.

    Args:
        path_below: sum of |dw| / |w| below which steps are short. Set after seeing 64
            trainings: sound ones went 0.2 to 100, short ones 0.01 to 0.05.
        gained_below: share of what was to be learnt below which it is told.
        steps_above: steps of a training that is going on before it is told.
        swallowed_above: share of elements below epsilon from which it is told.
        swallows_below: share of what was to be learnt, from a constant's loss on,
            below which it is told of a larger eps though the loss falls: less than
            half. (Since an unseen run that was told of it at first, and had come 24 %
            of the way at its end.)
        large_above: how many times as large as usual weights are of which this is told
            as the cause; no scheme draws them so. Set after seeing weights of 50 times
            the usual size called slow.

    Remedy:
        Raise the learning rate, call the scheduler as often as it was made for, or give
        Adam a smaller eps. A CNN on digits (SGD, 15 epochs, three seeds): 29-40 % right
        at a learning rate of 0.001, 97-99 % at 0.1; an MLP (Adam at 0.001) 10-17 %
        with an eps of 1, 97 % with 1e-8.

    Allow when:
        The weights are meant to stay near where they began, and learn little.

    Example:
        >>> from nets_history_steps import step_too_short
        >>> from watched import codes
        >>> codes(step_too_short(leans=True)) & {"PB716"}
        {'PB716'}
        >>> codes(step_too_short(leans=False)) & {"PB716"}
        set()

    References:
        Kingma and Ba (2015), Adam: a method for stochastic optimization, section 2.
        Bengio (2012), Practical recommendations for gradient-based training of deep
        architectures, section 3.1.1.
    """
    history = survey.history
    assert history is not None
    pulled = {n: c for n, c in history.courses.items() if _pulled(c)}
    if not pulled:
        return
    rates = np.array([course.lr for course in pulled.values()])
    logs = np.flatnonzero(~np.isnan(rates).all(0))
    if len(logs) < LOGS:
        return
    lr = np.nanmax(rates[:, logs], axis=0)
    progress = gained(history)
    learns = progress is not None and progress >= gained_below
    rising = not history.over and lr[-1] >= lr.max() and lr[-1] > lr[-LOGS]
    evidence: dict[str, int | float] = {"lr": float(lr[-1]), "highest": float(lr.max())}
    if progress is not None:
        evidence["gained"] = progress
    if not lr.any():
        yield Finding(
            message="the learning rate is 0 at all {logs} measured steps",
            cause="it was set so, or a scheduler makes it so: no step moves anything",
            evidence=evidence | {"logs": len(lr)},
            remedy=Remedy(
                advice="Set a learning rate above 0; or look at what the scheduler "
                "multiplies it by."
            ),
        )
        return
    if _taken_away(lr) and not learns:
        yield Finding(
            message="the learning rate is {lr:.2g} since {logs} measured steps, down "
            "from {highest:.2g}",
            cause="its schedule has ended long before the training has: it is called "
            "too often, or was made for fewer steps",
            evidence=evidence | {"logs": int((lr <= FALLEN * lr.max()).sum())},
            severity=Severity.INFO if progress is None else Severity.WARNING,
            remedy=Remedy(
                advice="Call the scheduler as often as it counts on, once an epoch or "
                "once a batch; or make it for the number of steps that are taken."
            ),
        )
        return
    waits = history.taken < (LEAST if history.over else steps_above)
    if rising or waits or progress is None:
        return
    found = _promise(history)
    far_off = found is not None and found["needed"] > history.taken
    share = np.median([_last(course.swallowed) for course in pulled.values()])
    eps = _epsilon(survey)
    late = eps > USUAL and progress < swallows_below and far_off
    late &= history.constant is not None
    if share > swallowed_above and (late or not learns):
        yield _swallowed(evidence | {"swallowed": float(share), "eps": eps})
    elif found is not None and far_off and not learns:
        moved = [
            (path(history, c), _times(c, s)) for c, s in travellers(survey).values()
        ]
        far = max((one for one, _ in moved), default=1.0)
        if far < path_below:
            times = float(np.median([times for _, times in moved]))
            large = times >= large_above and far * times >= path_below
            evidence |= found | {"path": far, "steps": history.taken}
            evidence |= {"times": times} if large else {}
            yield _short(evidence, sure=history.constant is not None)


def _pulled(course: Course) -> bool:
    """Return whether the optimiser holds a parameter, and ever got a gradient of it."""
    return bool((course.gradient > 0).any() and np.isfinite(course.lr).any())


def _taken_away(lr: Float[Any, " logs"]) -> bool:
    """Return whether at most measured steps next to nothing was left of lr."""
    gone = lr <= FALLEN * lr.max()
    return bool(gone[-LOGS:].all() and gone.mean() > 1 / 2 and not gone[0])


def _times(course: Course, usual: float) -> float:
    """Return how many times as large as random ones the weights of a map are, or 1."""
    return max(float(np.nanmedian(course.size)) / usual, 1.0)


def _last(numbers: Float[Any, " logs"]) -> float:
    known = numbers[np.isfinite(numbers)]
    return float(known[-1]) if len(known) else 0.0


def _promise(history: History) -> dict[str, int | float] | None:
    """Return what a step promises, and how many it would take at that; None if none."""
    slopes = np.array([course.slope for course in history.courses.values()])
    slopes = np.nansum(slopes[:, ~np.isnan(slopes).all(0)], axis=0)
    if history.loss is None or not len(slopes):
        return None
    late = history.loss.values[-max(5, len(history.loss.values) // 10) :]
    loss, promise = (
        float(np.median(late)),
        -float(np.median(slopes[len(slopes) // 2 :])),
    )
    left = loss - (history.floor or 0.0)
    if not (0 < promise < inf and 0 < left < inf):
        return None
    return {"promise": promise, "loss": loss, "needed": left / promise}


def _epsilon(survey: Survey) -> float:
    groups = survey.optimizer.groups if survey.optimizer else ()
    return max((group.eps for group in groups), default=0.0)


def _swallowed(evidence: dict[str, int | float]) -> Finding:
    large = evidence["eps"] > USUAL
    return Finding(
        message="epsilon, {eps:.2g}, is above the root of the second moment for "
        "{swallowed:.0%} of a parameter's elements, the median over parameters",
        cause="epsilon is large: the step is lr g / eps instead of about lr"
        if large
        else "the gradients are as small as that: they vanish on their way back",
        evidence=evidence,
        severity=Severity.WARNING if large else Severity.INFO,
        remedy=Remedy(
            advice="Give the optimiser an eps of the usual size; or raise the learning "
            "rate by as much as eps is above the root of the second moment."
            if large
            else "Look for what makes the gradients vanish; or multiply the loss by a "
            "constant, which a step of Adam does not feel but for eps."
        ),
    )


def _short(evidence: dict[str, int | float], *, sure: bool) -> Finding:
    large = "times" in evidence
    return Finding(
        message="{steps} steps together are {path:.2g} times as long as the weight "
        "that went farthest, and "
        + (
            "{gained:.0%} of what was to be learnt is learnt"
            if sure
            else "the loss, {loss}, has come {gained:.0%} of the way from its start to "
            "its floor"
        ),
        cause="the weights are {times:.3g} times as large as random ones of their "
        "maps, the median: it is beside those that the steps are short"
        if large
        else "the learning rate, {lr:.2g}, is too low: at the {promise:.2g} that a "
        "step promises, what is left would take {needed:.3g} steps",
        evidence=evidence,
        severity=Severity.INFO if large or not sure else Severity.WARNING,
        remedy=Remedy(
            advice="Draw the weights anew, by the scheme of Xavier or He."
            if large
            else "Raise the learning rate tenfold, again and again, while the loss "
            "still falls; or use an optimiser that divides by the gradient's size "
            "(Adam); or take many more steps."
        ),
    )
