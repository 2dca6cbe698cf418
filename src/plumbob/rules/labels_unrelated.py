"""PB719: nothing that holds for other data is learnt."""

from collections.abc import Iterator
from math import inf

import numpy as np

from plumbob.rule import rule
from plumbob.trends import SURE, Standing, middle, reach, standing, trend
from plumbob.types import Finding, History, Needs, Remedy, Severity, Survey


@rule(
    "PB719",
    "labels-unrelated",
    Needs.HISTORY | Needs.LOSSES,
    Severity.WARNING,
    since="0.1",
    explains=("PB702", "PB710", "PB718"),
)
def labels_unrelated(
    survey: Survey,
    *,
    held_below: float = 0.02,
    learnt_above: float = 0.1,
    learnt_below: float = 0.05,
    promised_above: float = 5.0,
    reach_below: float = 0.5,
    few: int = 5,
    patience: int = 1000,
) -> Iterator[Finding]:
    """Targets seem to have nothing to do with the inputs: all that helps is memory.

    Why:
        Where inputs and targets do not belong together (shuffled apart, an index off by
        one, labels at random) a net can still learn the training data by heart, and
        then its loss on other data never gets below that of a constant output. Or it
        does not even do that: then each step promises to lower the loss, by the slope
        on its own batch, and the next batches take it back, as what is learnt of one
        says nothing of the others. What is learnt by heart does harm elsewhere, so a
        held-out loss that surely rises, and never was below the constant's, tells it of
        little that has been learnt. Steps that are short, promise all there is to learn
        many times over, and bring nothing, say the same without held-out data.

    Evidence:
        learnt: the share of the way from the best constant output to the floor that
        the training loss has come. held: that of the lowest held-out loss, of `checks`.
        promised: what the `steps` steps promised together, over what there was to
        learn, by the median of the measured ones. reach: that of one step.

    Args:
        held_below: the share that counts as nothing, of held-out losses.
        learnt_above: the share of the training loss from which on it has learnt, and
            surely more than `learnt_below`. (It was 0.25 until an unseen run of
            shuffled labels had come 12 % of the way in 195 steps.) A held-out loss that
            still falls, from a start far above, has not been judged by then; where it
            surely rises, over the run or its second half, `learnt_below` is enough
            (since unseen ones that had come 8 to 9 % of the way in 400 steps).
        learnt_below: below which it has learnt nothing, noise taken off.
        promised_above: how often all there is to learn must have been promised, or
            what the loss has come down by from its start where that is more.
            (Sound runs that were in their first phase still had been promised less
            than once; this was set after seeing them.)
        reach_below: longer steps may overshoot instead.
        few: held-out losses before any is judged.
        patience: steps before a run that goes on is judged.

    Remedy:
        By hand. Look at a few pairs of input and target as the model gets them: both
        shuffled alike, the right column, the right index; then at the held-out data's
        own preparation.

    Allow when:
        The targets are nearly all chance, as returns of a market are.

    Example:
        >>> from nets_history_loss import labels_unrelated
        >>> from watched import codes
        >>> codes(labels_unrelated(leans=True)) & {"PB719"}
        {'PB719'}
        >>> codes(labels_unrelated(leans=False)) & {"PB719"}
        set()

    References:
        Zhang et al. (2017), Understanding deep learning requires rethinking
        generalization, section 2.
        Arpit et al. (2017), A closer look at memorization in deep networks.
    """
    history = survey.history
    assert history is not None
    now = standing(history)
    if now is None or now.learnt is None or now.most is None or now.constant is None:
        return
    advice = (
        "Look at pairs of input and target as the model gets them: shuffled alike, "
    )
    advice += "the right column, the right index; or at how held-out data are prepared."
    checks = _held(history, now)
    long = history.over or now.steps >= patience
    least = now.learnt - SURE * now.error / now.scale
    late, whole = trend(history.held), trend(history.held, back=inf)
    rises = any(part is not None and part.sure < 0 for part in (late, whole))
    memory = (now.learnt > learnt_above or rises) and least > learnt_below
    memory &= len(checks) >= few and (late is None or late.sure <= 0)
    if long and memory and max(checks) < held_below:
        yield Finding(
            message="the training loss has come {learnt:.0%} of the way from a "
            "constant output to the floor, the held-out loss at most {held:.0%}",
            cause="it falls by memory alone: what it learns does not hold elsewhere",
            evidence={
                "learnt": now.learnt,
                "held": max(checks),
                "checks": len(checks),
            },
            remedy=Remedy(advice=advice),
        )
        return
    steps = reach(history)
    step = middle(steps) or 0.0
    promised = step * now.steps
    paid = max(now.start - now.level, now.scale) / now.scale
    if (
        long
        and now.most < learnt_below
        and -learnt_below < now.learnt
        and step < reach_below
        and promised > promised_above * paid
    ):
        yield Finding(
            message="after {steps} steps the loss has come {learnt:.1%} of the way "
            "from a constant output to the floor",
            cause="the steps promised, each on its own batch, {promised:.3g} times "
            "what there is to learn: what one learns the others take back",
            evidence={
                "steps": now.steps,
                "learnt": now.learnt,
                "promised": promised,
                "reach": step,
            },
            remedy=Remedy(advice=advice),
        )


def _held(history: History, now: Standing) -> list[float]:
    """Return the shares learnt by held-out losses."""
    if history.held is None or now.constant is None:
        return []
    values = history.held.values[np.isfinite(history.held.values)]
    return [(now.constant - float(value)) / now.scale for value in values]
