"""How far the steps of a run move the weights of its maps, in units of their size."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.types import Course, History, Survey


def travellers(survey: Survey) -> Mapping[str, tuple[Course, float]]:
    """Return the courses of all maps' weights that steps move, each beside a size.

    The size is what random weights would have: one over the root of the map's inputs
    each. Not those of embeddings, of which a step moves only the rows that were read.
    """
    assert survey.history is not None
    found: dict[str, tuple[Course, float]] = {}
    for site in survey.sites:
        course = survey.history.courses.get(site.weight)
        if course is None or site.kind in {"norm", "embedding"}:
            continue
        if (course.size > 0).any() and np.isfinite(course.change).any():
            least = (course.numel / max(site.fan_in, 1)) ** 0.5
            found[site.weight] = course, least
    return found


def ratios(course: Course, least: float = 0.0) -> Float[Any, " logs"]:
    """Return |dw| / |w| of each measured step, |w| being `least` at least.

    NaN where one is not known, infinite where a step was not finite.
    """
    size = np.maximum(course.size, least)
    with np.errstate(all="ignore"):
        return course.change / np.where(size > 0, size, np.nan)


def path(history: History, course: Course) -> float:
    """Return the sum of |dw| / |w| over all steps taken, between logs by trapezia.

    Example:
        >>> every = {n: np.ones(3) for n in Course.__dataclass_fields__ if n != "numel"}
        >>> run = History(steps=np.array([0, 1, 11]), taken=12)
        >>> path(run, Course(numel=4, **every | {"size": np.full(3, 100.0)}))
        0.12
    """
    ratio = ratios(course)
    known = ~np.isnan(ratio)
    if not known.any():
        return 0.0
    steps, ratio = history.steps[known].astype(float), ratio[known]
    between = (ratio[1:] + ratio[:-1]) / 2 * np.diff(steps)
    after = max(history.taken - 1 - steps[-1], 0.0)
    return float(ratio[0] * (1 + steps[0]) + between.sum() + ratio[-1] * after)
