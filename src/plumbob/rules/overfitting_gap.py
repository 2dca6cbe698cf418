"""PB710: the loss on held-out data rises while that of the training falls."""

from collections.abc import Iterator
from math import log

import numpy as np

from plumbob.rule import rule
from plumbob.trends import standing
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule(
    "PB710",
    "overfitting-gap",
    Needs.HISTORY | Needs.LOSSES | Needs.VALIDATION,
    Severity.WARNING,
    since="0.1",
)
def overfitting_gap(
    survey: Survey,
    *,
    lost_above: float = 0.1,
    much_above: float = 0.5,
    few: int = 5,
) -> Iterator[Finding]:
    """The held-out loss has passed its lowest point, while the training loss falls on.

    Why:
        From there on the net learns what holds for the training data alone. What that
        costs is what the held-out loss has lost of what it had gained. Of classes the
        cost in accuracy is often none: a net that grows surer of its few mistakes pays
        for them in cross-entropy. Measured on MLPs trained far too long (Adam, 100
        epochs; digits with and without label noise, 2 seeds each): up to 0.05 of the
        gain lost cost 1 point of accuracy at most, 0.12 to 0.24 cost 3 to 12 points,
        0.38 to 0.70 cost 3 to 27. A net that is right may lose all of it. Of a squared
        error the share lost is that of R2.

    Evidence:
        low: the lowest held-out loss, at step `at`; held: the last ones, their median.
        start: the loss of the best constant output, or the first held-out one.
        level: the training loss now; before: when the held-out loss was lowest.
        lost: the share of what had been gained from `start` to `low` that is lost.
        noise: the standard deviation of held-out losses about their course.

    Args:
        lost_above: the share lost from which on it is told, as info.
        much_above: the share lost for a warning, where the loss is no cross-entropy:
            of a constant output that has no more than the logarithm of the classes.
        few: held-out losses before any is judged.

    Remedy:
        By hand. Keep the state of the lowest held-out loss (early stopping); or more
        data, or augmentation; or weight decay, or dropout; or a smaller net.

    Allow when:
        Only the accuracy counts, and it does not fall.

    Example:
        >>> from nets_history_loss import overfitting_gap
        >>> from watched import codes
        >>> codes(overfitting_gap(leans=True)) & {"PB710"}
        {'PB710'}
        >>> codes(overfitting_gap(leans=False)) & {"PB710"}
        set()

    References:
        Prechelt (1998), Early stopping, but when?
        Guo et al. (2017), On calibration of modern neural networks, section 3.
    """
    history = survey.history
    assert history is not None
    now, loss = standing(history), history.loss
    if now is None or loss is None or history.held is None:
        return
    finite = np.isfinite(history.held.values)
    steps, held = history.held.steps[finite], history.held.values[finite]
    if len(held) < few:
        return
    place = int(held.argmin())
    last = float(np.median(held[-3:]))
    low = float(np.median(held[max(place - 1, 0) : place + 2]))
    noise = float(np.median(np.abs(np.diff(held)))) / 0.954
    start = float(held[0]) if now.constant is None else now.constant
    gained = start - low
    near = (loss.steps >= steps[max(place - 1, 0)]) & (
        loss.steps <= steps[min(place + 1, len(steps) - 1)]
    )
    then = loss.values[near & np.isfinite(loss.values)]
    if not len(then) or last - low < 2 * noise or place > len(held) - 4:
        return
    before, lost = float(np.mean(then)), (last - low) / gained if gained > 0 else 0.0
    if gained <= 0 or lost < lost_above or now.level > before - now.error:
        return
    yield Finding(
        message="the held-out loss has risen from {low} at step {at} to {held}, while "
        "the training loss fell from {before} to {level}",
        cause="what is learnt now holds for the training data alone: {lost:.0%} of "
        "what the held-out loss had gained is lost",
        evidence={
            "at": int(steps[place]),
            "low": low,
            "held": last,
            "start": start,
            "before": before,
            "level": now.level,
            "lost": lost,
            "noise": noise,
        },
        severity=Severity.WARNING
        if lost > much_above and _of_numbers(survey, now.constant)
        else Severity.INFO,
        remedy=Remedy(
            advice="Keep the state of step {at} (early stopping); or take more data, "
            "or augment it; or add weight decay or dropout; or take a smaller net."
        ),
    )


def _of_numbers(survey: Survey, constant: float | None) -> bool:
    """Return whether the loss cannot be the cross-entropy of classes."""
    units = max([2, *(site.out for site in survey.sites if site.is_output)])
    return constant is not None and constant > 1.05 * log(units)
