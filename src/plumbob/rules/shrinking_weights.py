"""PB707: weights that shrink, and what makes them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.progress import in_proportion
from plumbob.rule import rule
from plumbob.travel import travellers
from plumbob.types import Course, Finding, Group, Needs, Remedy, Severity, Site, Survey

LOGS = 5
UPRIGHT = 1e-3  # |cosine| of weight and gradient: what rounding leaves of 0


@rule(
    "PB707",
    "shrinking-weights",
    Needs.HISTORY,
    Severity.WARNING,
    since="0.1",
)
def shrinking_weights(
    survey: Survey, *, left_below: float = 0.5, spread_below: float = 0.01
) -> Iterator[Finding]:
    """The weights have become much smaller than they were at the start.

    Why:
        Of each step d|w|^2 = 2 w.dw + |dw|^2 holds exactly, and w.dw is what decay
        does, -lr decay |w|^2, and what the gradient does. So the cause is told apart,
        not guessed:

        - decay takes more than the gradient gives: they shrink by lr decay a step;
        - the gradient itself points along w: a penalty within the loss, whose strength
          is w.g / |w|^2, or outputs that are to be smaller;
        - before a norm the loss does not depend on |w|: w.g is 0, decay alone shrinks,
          |dw|^2 alone grows, and they balance where the steps turn w by a constant
          angle. That is no fault.

        A learning rate that is too high never shrinks weights: |dw|^2 is above 0, so
        long steps make them grow.

        It is a fault where they end so small that the output no longer depends on the
        input, and the best that is left is a constant.

    Evidence:
        left: the median over maps of |w| as a share of what it was. decay, gradient,
        square: of the map that shrank most, what each of the three adds to |w|^2 in a
        measured step, as a share of it, the mean over them; with Adam, which divides
        their sum, decay and gradient are told apart by their shares in it. penalty:
        w.g / |w|^2, the median. cosine: that of w and g, its size. spread: the standard
        deviation of the outputs over the data, as a share of what it was; where it was
        not measured the product of what is left of all maps.

    Args:
        left_below: share of |w| that is left below which it is told.
        spread_below: share of the outputs' deviation below which it is a warning.

    Remedy:
        Lower the weight decay, or the strength of the penalty. A CNN on digits with
        0.1 times the sum of squares in its loss (SGD at 0.1, 15 epochs, three seeds):
        11 % right, as by guessing, and 97-99 % with a ten-thousandth of that.

    Allow when:
        The weights are meant to shrink: a decay that is followed by pruning, say.

    Example:
        >>> from nets_history_steps import shrinking_weights
        >>> from watched import codes
        >>> codes(shrinking_weights(leans=True)) & {"PB707"}
        {'PB707'}
        >>> codes(shrinking_weights(leans=False)) & {"PB707"}
        set()

    References:
        Van Laarhoven (2017), L2 regularization versus batch and weight normalization.
        Wan et al. (2021), Spherical motion dynamics: learning dynamics of normalized
        neural network using SGD and weight decay.
    """
    history = survey.history
    assert history is not None
    courses = {name: course for name, (course, _) in travellers(survey).items()}
    left = {name: _left(course.size) for name, course in courses.items()}
    left = {name: share for name, share in left.items() if share is not None}
    if not left:
        return
    middle = float(np.median(list(left.values())))
    if not middle < left_below:
        return
    name = min(left, key=lambda name: left[name])
    split = _split(survey, name, courses[name])
    if split is None:
        return
    spread = _spread(survey, left)
    upright = split["cosine"] < UPRIGHT
    decays = split["decay"] < min(split["gradient"], 0)
    yield Finding(
        site=next((s.name for s in survey.sites if s.weight == name), None),
        message="the weights are {left:.2g} times as large as they were, the median "
        "over the maps, and the outputs' deviation {spread:.2g} times",
        cause="weight decay: a measured step adds {decay:.2g} |w|^2 by decay, "
        "{gradient:.2g} by the gradient and {square:.2g} by its own length"
        + ("; the loss does not depend on their size" if upright else "")
        if decays
        else "the gradient points along the weights, by {penalty:.2g} |w|: a penalty "
        "within the loss, or outputs that are to be smaller",
        evidence=split | {"left": middle, "spread": spread},
        severity=None if spread < spread_below and not upright else Severity.INFO,
        remedy=Remedy(
            advice="Lower the weight decay to a tenth, again and again, until the "
            "weights hold their size; or leave it to fewer parameters."
            if decays
            else "Lower the strength of the penalty in the loss to a tenth, again and "
            "again, until the weights hold their size; or make it the optimiser's "
            "weight_decay."
        ),
    )


def _left(size: Float[Any, " logs"]) -> float | None:
    known = size[np.isfinite(size)]
    if len(known) < LOGS or not known[0] > 0:
        return None
    return float(known[-1] / known[0])


def _split(survey: Survey, name: str, course: Course) -> dict[str, int | float] | None:
    """Return what decay, gradient and length add to |w|^2, as shares of it."""
    parts = (course.along, course.change, course.pull, course.gradient, course.lr)
    logs = np.isfinite([*parts, course.size]).all(0) & (course.size > 0)
    if int(logs.sum()) < LOGS:
        return None
    along, change, pull, gradient, lr = (part[logs] for part in parts)
    square, penalty = course.size[logs] ** 2, pull / course.size[logs] ** 2
    group = _group(survey, name)
    rate = course.decay[logs]
    if group is not None and (group.decoupled or in_proportion(survey)):
        decay = -2 * lr * rate / (1 - min(group.momentum, 0.99))
    else:
        both = rate + np.abs(penalty)
        decay = 2 * along / square * rate / np.where(both > 0, both, 1)
    whole = (change**2 + 2 * along) / square
    slant = np.abs(pull) / np.where(gradient > 0, gradient * course.size[logs], np.inf)
    return {
        "decay": float(decay.mean()),
        "gradient": float((whole - decay - change**2 / square).mean()),
        "square": float((change**2 / square).mean()),
        "penalty": float(np.median(penalty)),
        "cosine": float(np.median(slant)),
    }


def _group(survey: Survey, name: str) -> Group | None:
    groups = survey.optimizer.groups if survey.optimizer else ()
    return next((group for group in groups if name in group.parameters), None)


def _spread(survey: Survey, left: Mapping[str, float]) -> float:
    """Return the deviation of the outputs over the data beside what it was."""
    assert survey.history is not None
    ends = [site for site in survey.sites if site.is_output]
    found = [_narrowing(survey, site) for site in ends]
    known = [ratio for ratio in found if ratio is not None]
    return max(known) if known else float(np.prod(list(left.values())))


def _narrowing(survey: Survey, site: Site) -> float | None:
    assert survey.history is not None
    row = survey.history.windows.get(site.name, ())
    if not row:
        return None
    first, last = (float(np.sqrt(w.z.var.mean())) for w in (row[0], row[-1]))
    return last / first if first > 0 and np.isfinite(last) else None
