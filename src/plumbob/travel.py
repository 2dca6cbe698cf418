"""How far the steps of a run move the weights of its maps, in units of their size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.types import Course, History, Survey


def travellers(survey: Survey) -> Mapping[str, Course]:
    """Return the courses of all maps' weights that steps move in units of their size.

    Not of those that began at 0, whose first step is as long as they are; nor of
    embeddings, of which a step moves only the rows that were read.
    """
    assert survey.history is not None
    found: dict[str, Course] = {}
    for site in survey.sites:
        course = survey.history.courses.get(site.weight)
        if course is None or site.kind in {"norm", "embedding"}:
            continue
        known = course.size[np.isfinite(course.size)]
        if len(known) and known[0] > 0 and np.isfinite(course.change).any():
            found[site.weight] = course
    return found


def ratios(course: Course) -> Float[Any, " logs"]:
    """Return |dw| / |w| of each measured step; NaN where one is not known."""
    with np.errstate(all="ignore"):
        found = course.change / np.where(course.size > 0, course.size, np.nan)
    return np.where(np.isfinite(found), found, np.nan)


def path(history: History, course: Course) -> float:
    """Return the sum of |dw| / |w| over all steps taken, between logs by trapezia.

    Example:
        >>> every = {n: np.ones(3) for n in Course.__dataclass_fields__ if n != "numel"}
        >>> run = History(steps=np.array([0, 1, 11]), taken=12)
        >>> path(run, Course(numel=4, **every | {"size": np.full(3, 100.0)}))
        0.12
    """
    ratio = ratios(course)
    known = np.isfinite(ratio)
    if not known.any():
        return 0.0
    steps, ratio = history.steps[known].astype(float), ratio[known]
    between = (ratio[1:] + ratio[:-1]) / 2 * np.diff(steps)
    after = max(history.taken - 1 - steps[-1], 0.0)
    return float(ratio[0] * (1 + steps[0]) + between.sum() + ratio[-1] * after)
