"""PB503: steps so long that the loss on their own batch does not come back."""

from collections.abc import Iterator
from math import isfinite

from plumbob.remedies import slower
from plumbob.rule import rule
from plumbob.types import (
    Finding,
    Needs,
    Output,
    Remedy,
    Severity,
    Step,
    Survey,
)


@rule(
    "PB503",
    "step-too-long",
    Needs.STEP | Needs.OPTIMIZER,
    Severity.ERROR,
    since="0.1",
    explains=("PB701", "PB702", "PB703", "PB704", "PB708", "PB711", "PB718"),
)
def step_too_long(
    survey: Survey,
    *,
    curvature_above: float = 2.0,
    rise_above: float = 1.5,
    throw_above: float = 10.0,
) -> Iterator[Finding]:
    """Steps of the optimiser overshoot, and the loss on their own batch stays high.

    Why:
        On a parabola of curvature c a step of plain SGD takes the distance from the
        bottom to 1 - lr c of itself: beyond 2 / lr it grows without end. Nets are no
        parabolas. At a learning rate of that size they often overshoot at first and
        come down elsewhere (the catapult), and trained on whole data sets they hover
        just at it for good (the edge of stability): both are healthy, so the
        curvature alone proves nothing. What a healthy step size does do is to bring
        the loss down on the one batch that is stepped on again and again. So the
        steps are taken, on a copy.

    Evidence:
        first: the loss before. last: after the last of `steps` steps on the same
        batch (of a large model only one is tried); highest: the largest that was
        finite. low: the lowest in their second half.
        curvature: the largest met along a step, times the learning rate: for plain SGD
        lr times a Rayleigh quotient, so no more than lr times the top curvature.
        leap: the length of the first step over that of all parameters.
        constant: the loss of the best constant output, where it is known.

    Args:
        curvature_above: 2, where a parabola's loss ends higher than it began.
        rise_above: how many times the larger of `first` and `constant` the loss must
            still be after half of the steps for a warning. Of 79 healthy nets and the
            sound ones of 64 trainings, looked at before it was set, none was above its
            start (times 1) there.
        throw_above: how many times `first` and `constant` the loss must have risen to
            where it comes down to a constant's loss alone, and rests there: the step
            has thrown the units to where they are dead. Sound nets rose to 3 times at
            most (11 where they came down far below a constant's loss at once).

    Remedy:
        Lower the learning rate. `plumbob.apply` sets the largest of a quarter, a
        sixteenth, ... at which the same steps bring the loss down, or for a large
        model what would take the step just to the bottom. Warm up, where only the
        first steps are too long. An error where the loss is infinite or NaN within the
        steps, a warning where it stays high, info where a large model's one step does
        not tell it from a catapult, or the loss of a constant is not known. A CNN and
        an MLP on digits (SGD, Adam, momentum; 15 epochs, 3 seeds each): where it warns
        9-27 % right after the training, mostly 10 % as by guessing, and 94-99 % at a
        tenth of these rates. In between, as at a CNN's lr of 1, some were lost later
        that had come back within these steps: they are not told.

    Allow when:
        The learning rate is not the one of the first steps, which a warm-up outside
        the optimiser sets.

    Example:
        >>> from nets_optimizer import step_too_long
        >>> from netting import codes
        >>> codes(step_too_long(leans=True)) & {"PB503"}
        {'PB503'}
        >>> codes(step_too_long(leans=False)) & {"PB503"}
        set()

    References:
        LeCun, Simard and Pearlmutter (1993), Automatic learning rate maximization by
        on-line estimation of the Hessian's eigenvectors.
        Lewkowycz et al. (2020), The large learning rate phase of deep learning: the
        catapult mechanism.
        Cohen et al. (2021), Gradient descent on neural networks typically occurs at
        the edge of stability.
    """
    step = survey.step
    assert step is not None
    losses = step.losses
    if len(losses) < 2 or not isfinite(losses[0]) or losses[0] <= 0:
        return
    first = losses[0]
    change = sum(m.change**2 for m in step.moves.values()) ** 0.5
    size = sum(m.size**2 for m in step.moves.values()) ** 0.5
    leap = change / size if size else 0.0
    finite = [value for value in losses if isfinite(value)]
    broken = len(finite) < len(losses)
    if not (step.curvature > curvature_above or (broken and leap > 1)):
        return
    late = losses[len(losses) // 2 :] if not broken else (first,)
    low = min(late)
    constant = survey.output.constant if survey.output else None
    start = max(first, constant or first)
    thrown = (
        survey.output is not None
        and max(finite) > throw_above * start
        and min(low, 2 * low - max(late)) > _nothing(survey.output)
    )
    if not broken and not thrown and low <= rise_above * start:
        return
    told = constant is not None and len(losses) > 2
    evidence: dict[str, int | float] = {
        "first": first,
        "highest": max(finite),
        "steps": len(losses) - 1,
        "curvature": step.curvature,
        "leap": leap,
    }
    if not broken:
        evidence |= {"last": losses[-1], "low": low}
    if constant is not None:
        evidence["constant"] = constant
    longer = step.curvature > curvature_above
    yield Finding(
        message="{steps} {steps:step|steps} on one batch {steps:takes|take} its loss "
        "from {first} "
        + ("to infinity or NaN" if broken else "to {last} and no lower than {low}"),
        cause="the learning rate times the curvature along the steps is {curvature}, "
        "where a parabola's loss rises from 2 on"
        if longer
        else "the first step is {leap:.3g} times as long as all parameters together",
        evidence=evidence,
        severity=None if broken else Severity.WARNING if told else Severity.INFO,
        remedy=_remedy(survey, step),
    )


def _nothing(output: Output) -> float:
    """Return the loss above which as good as nothing is gained over a constant."""
    floor = output.floor or 0.0
    return output.constant - 0.05 * max(output.constant - floor, 0.0)


def _remedy(survey: Survey, step: Step) -> Remedy:
    assert survey.optimizer is not None
    share = step.share
    if share is None and len(step.losses) == 2 and step.curvature > 0:
        share = 1 / step.curvature
    if share is None:
        return Remedy(advice="Lower the learning rate, or warm it up from near 0.")
    advice = "Lower the learning rate; the act sets what brings this loss down."
    return slower(survey, advice, share)
