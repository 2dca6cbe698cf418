"""PB718: the training ended while it was still improving."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.trends import Standing, middle, reach, standing, trend
from plumbob.types import Finding, History, Needs, Remedy, Severity, Survey

TOLD = 10  # losses below which resting is not believed, and PB702 does not judge
NOTHING = 0.05  # of what there is to learn


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
    promised_below: float = 1.5,
    reach_below: float = 0.01,
    rests_below: float = 0.05,
    few: int = 100,
    long: int = 250,
) -> Iterator[Finding]:
    """The loss was still falling when the training ended.

    Why:
        A loss falls roughly in the logarithm of the steps until it comes near its
        limit. So the second half of a run tells what half as many steps again would
        gain. Where much is left to learn, and the steps together promised little, or
        where next to nothing has been learnt and the loss has not come to rest, the
        run was too short: for its learning rate, for its batches (an epoch of large
        batches is few steps), or for its optimiser. The steps tell it too: together
        they must promise what there is to learn more than once, as slopes promise too
        much. More steps are of no use where held-out losses do not follow, or have
        come to rest: where these are known they tell what more training would pay.

    Evidence:
        steps: of the optimiser. level: the loss in the last quarter of them, a median
        of means. gain: by how much half as many steps again would lower it, by a line
        in log(steps) through the second half; error: twice its standard error.
        learnt: the share of the way from the best constant output to the floor, where
        these are known; left: what the loss at the end is above the floor. reach: the
        length of a step in those of Polyak, the median over the measured steps; at 1
        the slope alone would bring the loss to its floor. promised: the steps times
        that.

    Args:
        learnt_below: the share learnt below which nearly all is left, a warning; else
            it is info. Of 46 sound networks one had come 16 % of the way after 96
            steps; this was set then.
        come_above: a run that has come so much of the way from its own start to the
            floor is well under way, be it from a start far above the constant.
        gain_above: the gain, as a share of what there is to learn, or of the loss where
            that is not known, from which on the rest is told as info.
        promised_below: what all steps must have promised together for more than half
            to be left for want of longer ones, while the loss falls on (or the
            held-out one). It was set after seeing unseen runs; sound ones that had come
            40 and 49 % of the way in 96 steps show that this takes `few` losses.
        reach_below: the length of a step below which longer ones are advised first.
        rests_below: held-out losses rest where they do not surely fall, and half as
            many steps again would lower them by less than this share of what all have.
            A fall in log(steps) that began at step 10 has 9 % after 1000. It was set
            after seeing unseen runs: those at rest had 1 % at most, one that fell on
            28 %.
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
    now, goes = standing(history), trend(history.loss)
    if not history.over or now is None or (now.still and now.known >= TOLD):
        return
    if now.scale <= 0:  # nothing is left to learn
        return
    if _in_vain(history, now) or _rests(history, now, rests_below):
        return
    falls = now.improves or (goes is not None and goes.sure > 0)
    floor = history.floor or 0.0
    left = (now.level if goes is None else goes.level) - floor
    gain = 0.0 if goes is None else min(goes.gain, left)
    step = middle(reach(history))
    promised = None if step is None else step * now.steps
    little = now.learnt is not None and now.learnt < learnt_below
    come = (now.start - now.level) / max(now.start - floor, now.scale)
    little &= come < come_above or now.steps >= long
    little &= falls or now.known < few
    held = trend(history.held)
    slow = promised is not None and promised < promised_below
    slow &= now.learnt is not None and left > now.scale / 2 and now.known >= few
    slow &= falls or (held is not None and held.sure > 0)
    if not (little or slow or (falls and gain > gain_above * now.scale)):
        return
    evidence: dict[str, int | float] = {"steps": now.steps, "level": now.level}
    if goes is not None:
        evidence |= {"gain": gain, "error": 2 * goes.error}
    if now.learnt is not None:
        evidence |= {"learnt": now.learnt, "left": left}
    if step is not None and promised is not None:
        evidence |= {"reach": step, "promised": promised}
    short = step is not None and (step < reach_below or slow)
    raise_it, longer = "raise the learning rate", "train longer"
    first, second = (raise_it, longer) if short else (longer, raise_it)
    yield Finding(
        message="the loss had come to {level} in {steps} steps when the training ended"
        + (
            ", {learnt:.0%} of the way from a constant output to the floor"
            if little or slow
            else " and was still falling"
        ),
        cause="half as many steps again would gain about {gain}"
        if goes is not None and falls and not slow
        else "together the steps promised {promised} times what is left: they are short"
        if slow
        else "they are too few to tell what more would gain",
        evidence=evidence,
        severity=Severity.WARNING if little or slow else Severity.INFO,
        remedy=Remedy(
            advice=f"{first[0].upper()}{first[1:]}; or {second}; or take smaller "
            "batches, which are more steps for the same work; or Adam."
        ),
    )


def _in_vain(history: History, now: Standing) -> bool:
    """Whether held-out losses stand at the constant's, or rise, as training falls."""
    held = trend(history.held)
    if held is None or now.learnt is None or now.constant is None:
        return False
    none = held.level > now.constant - NOTHING * now.scale
    return now.learnt > NOTHING and held.sure < (1 if none else 0)


def _rests(history: History, now: Standing, below: float) -> bool:
    """Whether held-out losses do not surely fall, and at best by next to nothing.

    By those of the last quarter, as a line through more of a curve that bends promises
    too much; where these are too few, by those of the second half.
    """
    held = trend(history.held, back=4 / 3) or trend(history.held)
    if held is None:
        return False
    known = now.start if now.constant is None else min(now.start, now.constant)
    come = known - held.level
    return held.sure <= 0 and come > 0 and held.gain < below * come
