"""How far a training has come, and what its optimiser makes of a gradient's size."""

from collections.abc import Sequence

import numpy as np

from plumbob.types import History, Survey, Window


def learnt(survey: Survey) -> float | None:
    """Return how much of what the best constant leaves to be learnt has been learnt.

    0: the loss is no better than that of a constant output; 1: it is at its floor.
    None where the loss could not be asked, leaves nothing to be learnt, or is better
    than a constant's and has no floor: a likelihood of numbers falls for ever.
    """
    found = survey.output
    if found is None:
        return None
    gained = found.constant - found.loss
    if found.floor is None:
        return 0.0 if gained <= 0 else None
    left = found.constant - found.floor
    return gained / left if left > 0 else None


def in_proportion(survey: Survey) -> bool:
    """Return whether the optimiser is known to step in proportion to the gradient."""
    found = survey.optimizer
    return found is not None and found.name.startswith(("SGD", "ASGD", "LBFGS"))


def gained(history: History) -> float | None:
    """Return how much of what was to be learnt a run has learnt so far.

    As `learnt`, by the losses of the run's steps: from the best constant's, or from the
    first tenth where that is not known, to the floor, or 0. None where there is no one
    series, or too short a one.

    Example:
        >>> from plumbob.types import Losses
        >>> losses = Losses(steps=np.arange(40), values=np.linspace(4.0, 1.0, 40))
        >>> run = History(steps=losses.steps, losses={"loss": losses}, constant=2.0)
        >>> round(gained(run), 2)
        0.42
    """
    losses = history.loss
    if losses is None or len(losses.values) < 10:
        return None
    now, start = level(history), history.constant
    assert now is not None
    if start is None:
        tenth = max(5, len(losses.values) // 10)
        start = float(np.median(losses.values[:tenth]))
    left = start - (history.floor or 0.0)
    return (start - now) / left if left > 0 else None


def level(history: History) -> float | None:
    """Return the median of the last tenth of the losses; None for less than ten."""
    losses = history.loss
    if losses is None or len(losses.values) < 10:
        return None
    return float(np.median(losses.values[-max(5, len(losses.values) // 10) :]))


def told(row: Sequence[Window]) -> Sequence[Window]:
    """Return the windows in which every unit had a finite value: others say nothing."""
    return [window for window in row if window.z.count.all()]


def latest(row: Sequence[Window], samples: int) -> Window | None:
    """Return the last windows of a site, joined until they hold so many samples."""
    found: Window | None = None
    for window in reversed(row):
        found = window if found is None else window + found
        if found.samples >= samples:
            return found
    return None
