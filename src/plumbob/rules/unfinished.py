"""PB718: the training ended while it was still improving."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.trends import middle, reach, standing
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule(
    "PB718",
    "unfinished",
    Needs.HISTORY | Needs.LOSSES,
    Severity.WARNING,
    since="0.1",
)
def unfinished(
    survey: Survey,
    *,
    learnt_below: float = 0.125,
    come_above: float = 0.75,
    gain_above: float = 0.05,
    reach_below: float = 0.01,
    few: int = 100,
    long: int = 250,
) -> Iterator[Finding]:
    """The loss was still falling when the training ended.

    Why:
        A loss falls roughly in the logarithm of the steps until it comes near its
        limit. So what the second half of a run gained is about what as many steps again
        would gain, at the most. Where little has been learnt at the end, and the loss
        has not come to rest, the run was too short: for its learning rate, for its
        batches (an epoch of large batches is few steps), or for its optimiser.

    Evidence:
        steps: of the optimiser. level: the loss in the last quarter of them, a median
        of means. gain: by how much as many steps again would lower it at the most:
        twice what the last quarter is below the one before; error: its standard error.
        learnt: the share of the way from the best constant output to the floor, where
        these are known. reach: the length of a step in those of Polyak, the median
        over the measured steps; at 1 the slope alone would bring the loss to its floor.

    Args:
        learnt_below: the share learnt below which nearly all is left, a warning; else
            it is info. Of 46 sound networks one had come 16 % of the way after 96
            steps; this was set then.
        come_above: a run that has come so much of the way from its own start to the
            floor is well under way, be it from a start far above the constant.
        gain_above: the gain, as a share of what there is to learn, or of the loss where
            that is not known, from which on the rest is told as info.
        reach_below: the length of a step below which longer ones are advised first.
        few: losses that are too few to see in them, through noise, that they fall.
        long: steps after which being under way is not enough.

    Remedy:
        By hand. Train longer; or raise the learning rate, where steps are short; or
        take smaller batches, which are more steps for the same work; or Adam.

    Allow when:
        The run was a trial, or goes on elsewhere.

    Example:
        >>> from nets_history_loss import unfinished
        >>> from watched import codes
        >>> codes(unfinished(leans=True)) & {"PB718"}
        {'PB718'}
        >>> codes(unfinished(leans=False)) & {"PB718"}
        set()

    References:
        Domhan, Springenberg and Hutter (2015), Speeding up automatic hyperparameter
        optimization of deep neural networks by extrapolation of learning curves.
        Shallue et al. (2019), Measuring the effects of data parallelism on neural
        network training, section 4.
    """
    history = survey.history
    assert history is not None
    now = standing(history)
    if not history.over or now is None or now.still:
        return
    little = now.learnt is not None and now.learnt < learnt_below
    floor = history.floor or 0.0
    come = (now.start - now.level) / max(now.start - floor, now.scale)
    little &= come < come_above or now.steps >= long
    if not (now.improves or (little and now.known < few)):
        return
    if not little and now.gain < gain_above * now.scale:
        return
    step = middle(reach(history))
    evidence: dict[str, int | float] = {
        "steps": now.steps,
        "level": now.level,
        "gain": now.gain,
        "error": 2 * 2**0.5 * now.error,
    }
    if now.learnt is not None:
        evidence["learnt"] = now.learnt
    if step is not None:
        evidence["reach"] = step
    short = step is not None and step < reach_below
    raise_it, longer = "raise the learning rate", "train longer"
    first, second = (raise_it, longer) if short else (longer, raise_it)
    yield Finding(
        message="the loss had come to {level} in {steps} steps when the training ended"
        + (
            ", {learnt:.0%} of the way from a constant output to the floor"
            if little
            else " and was still falling"
        ),
        cause="as many steps again would gain up to {gain}"
        if now.improves
        else "they are too few to tell what more would gain ({gain}, give or take "
        "{error})",
        evidence=evidence,
        severity=Severity.WARNING if little else Severity.INFO,
        remedy=Remedy(
            advice=f"{first[0].upper()}{first[1:]}; or {second}; or take smaller "
            "batches, which are more steps for the same work; or Adam."
        ),
    )
