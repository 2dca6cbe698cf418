"""PB707: weights that shrink, and what makes them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.progress import gained, in_proportion, level
from plumbob.rule import rule
from plumbob.travel import travellers
from plumbob.trends import standing
from plumbob.types import Course, Finding, Group, Needs, Remedy, Severity, Site, Survey

LOGS = 5
ALONG = 0.5  # cosine of weight and gradient: of many numbers' it is about 0 by chance
UPRIGHT = 1e-3  # |cosine| of weight and gradient: what rounding leaves of 0


@rule(
    "PB707",
    "shrinking-weights",
    Needs.HISTORY,
    Severity.WARNING,
    since="0.1",
    explains=("PB204", "PB702", "PB711", "PB718"),
)
def shrinking_weights(
    survey: Survey,
    *,
    left_below: float = 0.5,
    spread_below: float = 0.01,
    push_above: float = 0.05,
    gained_below: float = 0.5,
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
        input, and the best that is left is a constant. And before: where the weights
        have come to rest though the loss still pushes them out, as hard as a penalty
        holds them down. Were they larger by a share e, the loss would fall by e times
        that push, -w.g: where that is much beside what there is to learn, and little is
        learnt, the penalty decides what the model can be. One within the loss is known
        by the first gradients: a good part of each points along its own w, with the
        same strength for all maps.

    Evidence:
        left: the median over maps of |w| as a share of what it was. decay, gradient,
        square: of the map that shrank most, what each of the three adds to |w|^2 in a
        measured step, as a share of it, the mean over them; with Adam, which divides
        their sum, decay and gradient are told apart by their shares in it. penalty:
        w.g / |w|^2, the median. cosine: that of w and g, its size. spread: the standard
        deviation of the outputs over the data, as a share of what it was, where it was
        measured. push: what the loss would fall by for weights larger by a share, as a
        multiple of that share and of all that there is to learn. strength: of what
        holds against it, per w. learnt: the share of what there is to learn that has
        been learnt.

    Args:
        left_below: share of |w| that is left below which it is told.
        spread_below: share of the outputs' deviation below which it is a warning, but
            where `gained_below` is learnt: the targets may be as small.
        push_above: push that is much: weights twice as large would win a thirtieth of
            all. Set after seeing two penalties, of 0.13 and 0.4.
        gained_below: share learnt below which it is a warning.

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
    spread, now = _spread(survey), standing(history)
    # what a penalty within the loss gives up looks learnt
    won = None if now is None or _within(courses) else now.learnt
    constant = spread is not None and spread < spread_below
    constant &= won is None or won < gained_below
    held = _held(survey, courses)
    down = (
        held["push"] >= push_above and held["learnt"] < gained_below if held else False
    )
    upright = split["cosine"] < UPRIGHT
    decays = split["decay"] < min(split["gradient"], 0)
    yield Finding(
        site=None
        if down
        else next((s.name for s in survey.sites if s.weight == name), None),
        message="the weights are {left:.2g} times as large as they were, the median "
        "over the maps"
        + (
            ", and the outputs' deviation {spread:.2g} times"
            if spread is not None
            else ""
        ),
        cause="weight decay: a measured step adds {decay:.2g} |w|^2 by decay, "
        "{gradient:.2g} by the gradient and {square:.2g} by its own length"
        + ("; the loss does not depend on their size" if upright else "")
        + ("; the data push as hard: {learnt:.0%} is learnt" if down else "")
        if decays
        else "the gradient points along the weights, by {penalty:.2g} |w|: a penalty "
        "within the loss, or outputs that are to be smaller"
        if not down
        else "a penalty of {strength:.2g} w within the loss holds them down as hard as "
        "the data push them out, and decides: {learnt:.0%} is learnt",
        evidence=split
        | {"left": middle}
        | ({} if spread is None else {"spread": spread})
        | ({} if won is None else {"learnt": won})
        | (held or {}),
        severity=None if down or (constant and not upright) else Severity.INFO,
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


def _held(
    survey: Survey, courses: Mapping[str, Course]
) -> dict[str, int | float] | None:
    """Return how hard the data push on weights at rest, and what holds against it.

    None where they do not rest, nothing is known to hold them, or not what is to learn.
    """
    history = survey.history
    assert history is not None
    now, done = level(history), gained(history)
    if now is None or done is None or history.constant is None or not courses:
        return None
    squares, push, hold = 0.0, 0.0, 0.0
    within = _within(courses)
    for name, course in courses.items():
        half = len(course.size) // 2
        pull, size = course.pull[half:], course.size[half:]
        known = np.isfinite(pull) & np.isfinite(size)
        if int(known.sum()) < LOGS:
            return None
        square = float(np.median(size[known] ** 2))
        squares += square
        push += within * square - float(np.median(pull[known]))
        group = _group(survey, name)
        if group is None or not group.decoupled:
            hold += (within + float(course.decay[-1])) * square
    to_learn = history.constant - (history.floor or 0.0)
    if not (hold > 0 and to_learn > 0 and hold / 2 <= push <= 2 * hold):
        return None
    if within:  # half of w.w times its strength is in the loss
        done = 1 - (now - within * squares / 2) / to_learn
    return {
        "push": push / to_learn,
        "strength": hold / squares,
        "learnt": float(done),
    }


def _within(courses: Mapping[str, Course]) -> float:
    """Return the strength of a penalty in the loss, w.g / w.w at first; 0 for none."""
    strengths: list[float] = []
    for course in courses.values():
        first = [part[:LOGS] for part in (course.pull, course.size, course.gradient)]
        pull, size, gradient = first
        with np.errstate(all="ignore"):
            strengths.append(float(np.median(pull / size**2)))
            slant = float(np.median(pull / (size * gradient)))
        if not slant >= ALONG:
            return 0.0
    same = len(strengths) > 1 and max(strengths) <= 1.5 * min(strengths)
    return float(np.median(strengths)) if same else 0.0


def _group(survey: Survey, name: str) -> Group | None:
    groups = survey.optimizer.groups if survey.optimizer else ()
    return next((group for group in groups if name in group.parameters), None)


def _spread(survey: Survey) -> float | None:
    """Return the deviation of the outputs over the data beside what it was."""
    ends = [site for site in survey.sites if site.is_output]
    found = [_narrowing(survey, site) for site in ends]
    known = [ratio for ratio in found if ratio is not None]
    return max(known, default=None)


def _narrowing(survey: Survey, site: Site) -> float | None:
    assert survey.history is not None
    row = survey.history.windows.get(site.name, ())
    if not row:
        return None
    first, last = (float(np.sqrt(w.z.var.mean())) for w in (row[0], row[-1]))
    return last / first if first > 0 and np.isfinite(last) else None
