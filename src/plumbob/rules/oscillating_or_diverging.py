"""PB703: the steps throw the loss up, or about."""

from collections.abc import Iterator
from math import inf

import numpy as np

from plumbob.remedies import slower
from plumbob.rule import rule
from plumbob.trends import FIRST, SURE, Standing, middle, reach, standing
from plumbob.types import Finding, Needs, Remedy, Severity, Survey

SHARE = 0.1  # of the learning rate, where nothing tells how much too long steps are


@rule(
    "PB703",
    "oscillating-or-diverging",
    Needs.HISTORY | Needs.LOSSES,
    Severity.ERROR,
    since="0.1",
    explains=(
        "PB101",
        "PB201",
        "PB204",
        "PB208",
        "PB701",
        "PB702",
        "PB704",
        "PB706",
        "PB708",
        "PB711",
        "PB718",
    ),
)
def oscillating_or_diverging(
    survey: Survey,
    *,
    risen_above: float = 1.5,
    far_above: float = 10.0,
    reach_above: float = 2.0,
    learnt_below: float = 0.05,
    goal: float = 0.25,
    half: float = 0.5,
    wild_above: float = 0.2,
    promised_above: float = 5.0,
    few: int = 10,
    patience: int = 100,
    long_run: int = 1000,
) -> Iterator[Finding]:
    """The loss rises, or does not fall, because the steps are too long.

    Why:
        A batch's loss alone says little: it differs from batch to batch. What a step
        promises tells noise from overshooting: on its own batch the loss falls by
        -g.dw to first order, and cannot fall below its floor. A parabola that stays
        above the floor has its bottom before twice the step of Polyak, which promises
        just the loss minus its floor; before four times it the loss is higher than
        it was. So steps that promise more than twice of what there is overshoot on
        their own batch, whatever the others are. Nets often do so at first and settle
        (the catapult), so this is asked only of a run that has learnt nothing.
        Whatever the targets are, the output's bias alone can come to the constant's
        loss. So where steps promise all there is to fall many times over, and the loss
        rests above the constant's, each undoes what others did, even of the bias: they
        are too long for so small batches, or for so much momentum. And a loss that
        rises though no step promises as much as Polyak's does is raised by something
        else: targets that grow, as those of a value function, or a weight within it.

    Evidence:
        level: the loss, the median of means over the last quarter of `steps` steps.
        start: the median of the first losses; high: the largest. best: the lowest
        level of an eighth of the run. constant: that of the best constant output.
        reach: the length of the steps in those of Polyak: of the first ones the mean,
        as one throw is enough; of the later ones the median.
        had: the share of the way from the constant's loss to the floor that the best
        level had come, two standard errors taken off. wild: the share of the losses
        that are as far from the one before as numbers whose deviation is 4 times all
        there is to learn: outputs near a constant hardly give a fifth of such ones,
        whatever the targets, as so many are above 5 times their mean. promised: the
        steps times the median of their lengths in those of Polyak.

    Args:
        risen_above: how many times its start, and the constant's loss, the level must
            be for a loss that has risen, two standard errors taken off.
        far_above: how many times, for an error: it has left all that is known. Both are
            info where all of `few` measured steps or more are shorter than Polyak's,
            and nothing else below is so.
        reach_above: 2, where a parabola has its bottom.
        learnt_below: the share of what there is to learn that counts as nothing.
        goal: the share that was learnt, where all is lost again.
        half: the share below which a run that was wild is told.
        wild_above: the share of wild losses that counts.
        promised_above: how often all that the loss could fall by must have been
            promised, where it rests above the constant's by more than `learnt_below`
            and its noise. Two unseen runs with batches of one sample (22 and 70 times)
            showed that this was missing.
        few: losses before any run is judged.
        patience: steps before one that goes on is.
        long_run: steps before one that goes on counts as resting above the constant's.

    Remedy:
        `plumbob.apply` divides the learning rate by `reach`, or by ten where it does
        not tell. Or warm up; or clip the gradient's norm; or take larger batches, whose
        gradients vary less; or scale inputs and targets.

    Allow when:
        The loss changes its meaning on the way (a weight in it that grows).

    Example:
        >>> from nets_history_loss import oscillating_or_diverging
        >>> from watched import codes
        >>> codes(oscillating_or_diverging(leans=True)) & {"PB703"}
        {'PB703'}
        >>> codes(oscillating_or_diverging(leans=False)) & {"PB703"}
        set()

    References:
        Polyak (1987), Introduction to optimization, section 5.3.
        Lewkowycz et al. (2020), The large learning rate phase of deep learning: the
        catapult mechanism.
        Loizou et al. (2021), Stochastic Polyak step-size for SGD.
    """
    history = survey.history
    assert history is not None
    now = standing(history)
    if now is None or now.known < few:
        return
    if not history.over and history.taken < patience:
        return
    usual = max(now.start, -inf if now.constant is None else now.constant)
    known = now.constant is not None
    steps = reach(history)
    first, later = steps[:FIRST], steps[FIRST:]
    thrown = float(np.nanmean(first)) if np.isfinite(first).any() else 0.0
    late = middle(later[len(later) // 2 :]) or 0.0
    diverged = usual > 0 and now.level - SURE * now.error > risen_above * usual
    nothing = now.most is not None and now.most < learnt_below and not now.improves
    long = max(thrown, late) > reach_above
    surely = now.best + SURE * 2**0.5 * now.error  # an eighth has half of the losses
    had = 0.0 if now.constant is None else (now.constant - surely) / now.scale
    lost = nothing and had > goal
    wild = now.wild > wild_above and (now.learnt is None or now.learnt < half)
    promised = (middle(steps) or 0.0) * now.steps
    undone = _above(now, learnt_below) and promised > promised_above
    undone &= history.over or history.taken >= long_run
    if not (diverged or lost or wild or undone or (nothing and long)):
        return
    evidence: dict[str, int | float] = {
        "steps": now.steps,
        "start": now.start,
        "level": now.level,
        "high": now.high,
        "best": now.best,
    }
    if now.constant is not None:
        evidence["constant"] = now.constant
    if long:
        evidence["reach"] = late if late > reach_above else thrown
    far = diverged and known and now.level > far_above * usual
    lengths = steps[np.isfinite(steps)]
    calm = diverged and not (lost or wild or undone) and len(lengths) >= few
    calm = calm and bool(lengths.max() < 1)
    if calm:
        evidence["reach"] = float(lengths.max())
    if known:
        evidence |= {"had": had, "wild": now.wild}
    if undone:
        evidence["promised"] = promised
    if diverged:
        message = "the loss has risen from {start} to {level} in {steps} steps"
    elif wild:
        message = "{wild:.0%} of the losses of {steps} steps are apart from the one "
        message += "before by several times all there is to learn"
    elif lost:
        message = "the loss had come to {best}, and is back at {level}: the best "
        message += "constant output has {constant}"
    else:
        message = "the loss rests at {level} after {steps} steps, at one time {high}: "
        message += "the best constant output has {constant}"
    yield Finding(
        message=message,
        cause="no measured step promised more than {reach} times what the loss could "
        "fall by, so none overshot: what the loss asks for has changed on the way"
        if calm
        else _cause(long, late > reach_above, undone),
        evidence=evidence,
        severity=Severity.INFO
        if calm
        else Severity.ERROR
        if far
        else Severity.WARNING
        if known or now.level > far_above * usual
        else Severity.INFO,
        remedy=Remedy(
            advice="Look whether the targets or the loss change while it trains; or "
            "lower the learning rate all the same."
        )
        if calm
        else slower(
            survey,
            "Lower the learning rate; or warm it up from near 0; or clip the "
            "gradient's norm; or take larger batches; or scale inputs and targets.",
            min(SHARE, 1 / evidence["reach"] if long else SHARE),
        ),
    )


def _above(now: Standing, clearly: float) -> bool:
    """Whether the loss rests above the constant's, by more than noise."""
    if now.learnt is None or now.improves:
        return False
    return now.learnt < -max(clearly, SURE * now.error / now.scale)


def _cause(long: bool, late: bool, undone: bool) -> str:
    if undone and not long:
        return (
            "together the steps promised {promised} times what it could fall by: each "
            "undoes what others did, even of the output's bias"
        )
    if not long:
        return "steps as they are taken do not lower it, on average"
    when = "the later steps promise" if late else "the first steps promised"
    return (
        f"{when} {{reach}} times what the loss could fall by at the most: they "
        "overshoot on their own batch"
    )
