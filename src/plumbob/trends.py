"""Where a noisy loss stands, where it goes, and what its own gradient promised."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.types import History, Losses

GROUPS = 8  # the level of many losses is the median of so many means
FIRST = 5  # losses that the start is the median of
SURE = 2.0  # standard errors
EPSILON = float(np.finfo(np.float32).eps)  # by which a loss errs of itself
WILD = 4.0  # of what there is to learn: a deviation that makes a loss wild
LEAST, MOST = 0.01, 0.1  # of what there is to learn: a gain, and less than any


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the losses of a run say of it; all but `known` and `steps` are losses.

    `known` counts the losses, `steps` the optimiser's.
    `start` is the median of the first losses, `level` that of the last quarter of
    the steps, a median of means, and `error` its standard error by the differences of
    neighbours, which a trend leaves alone. `best` is the lowest level of an eighth of
    the run, `high` the largest single loss. `fall` is how far the last quarter lies
    below the one before. `scale` is what there is to learn, from the best constant
    output to the floor, or the level where these are not known. `learnt` is the share
    of it that has been gained, `wild` that of the losses which are apart from the one
    before by several times all that there is to learn.
    """

    known: int
    steps: int
    start: float
    level: float
    best: float
    high: float
    fall: float
    error: float
    scale: float
    wild: float = 0.0
    constant: float | None = None
    learnt: float | None = None

    @property
    def most(self) -> float | None:
        """The share learnt, for all that noise may hide."""
        return None if self.learnt is None else self.learnt + self.error / self.scale

    @property
    def gain(self) -> float:
        """What as many steps again would gain if the loss falls on in log(steps).

        From the third quarter to the last one log(steps) grows by 0.34, in doubling the
        steps by 0.69. A loss that nears a limit gains less.
        """
        return 2 * self.fall

    @property
    def improves(self) -> bool:
        """Whether the loss falls, by more than its noise and by more than nothing."""
        sure = self.fall > SURE * self.error * 2**0.5
        return sure and self.gain > LEAST * self.scale

    @property
    def still(self) -> bool:
        """Whether as many steps again would gain next to nothing, for all the noise."""
        largest = abs(self.fall) + SURE * self.error * 2**0.5
        return not self.improves and 2 * largest < MOST * self.scale


def standing(history: History) -> Standing | None:
    """Return where the losses stand; None without four finite ones in one series."""
    loss = history.loss
    if loss is None:
        return None
    finite = np.isfinite(loss.values)
    steps, values = loss.steps[finite], loss.values[finite]
    if len(values) < 4:
        return None
    end = float(steps[-1]) + 1
    third = _part(steps, values, end / 2, end * 3 / 4)
    last = _part(steps, values, end * 3 / 4, end)
    late = _part(steps, values, end / 2, end)
    eighths = [_part(steps, values, i * end / 8, (i + 1) * end / 8) for i in range(8)]
    level = _level(last)
    noise = _swing(late) if len(late) > 1 else inf
    error = 1.25 * noise / max(len(last), 1) ** 0.5  # a median errs by so much more
    to_learn = _to_learn(history)
    return Standing(
        known=len(values),
        steps=history.taken,
        start=float(np.median(values[:FIRST])),
        level=level,
        best=min(_level(part) for part in eighths if len(part)),
        high=float(values.max()),
        fall=_level(third) - level if len(third) else 0.0,
        error=error,
        scale=to_learn or abs(level),
        wild=float(np.mean(np.abs(np.diff(values)) > WILD * 2**0.5 * to_learn))
        if to_learn
        else 0.0,
        constant=history.constant if to_learn else None,
        learnt=_learnt(history, to_learn, level, error),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A loss at its end, and what half as many steps again would gain.

    By a straight line in log(steps) through the end of a run; `error` is the gain's
    standard error. A loss that nears a limit gains less.
    """

    level: float
    gain: float
    error: float

    @property
    def sure(self) -> int:
        """1 where the loss surely falls, -1 where it surely rises, else 0."""
        if abs(self.gain) <= SURE * self.error:
            return 0
        return 1 if self.gain > 0 else -1


def trend(loss: Losses | None, back: float = 2.0) -> Trend | None:
    """Return where a loss goes, from the last step's number over `back` on.

    That is the second half, by default. None without four finite ones in it.
    """
    if loss is None:
        return None
    finite = np.isfinite(loss.values)
    steps, values = np.log(loss.steps[finite] + 1.0), loss.values[finite]
    if not len(steps):
        return None
    end = float(steps[-1])
    late = steps > end - np.log(back)
    count = int(late.sum())
    if count < 4 or steps[-1] == steps[-count]:  # or all of one step
        return None
    x, y = steps[late], values[late]
    off = x - x.mean()
    wide = float(off @ off)
    slope = float(off @ y) / wide
    rest = y - y.mean() - slope * off
    level = float(y.mean()) + slope * (end - float(x.mean()))
    error = (float(rest @ rest) / (count - 2) / wide) ** 0.5
    error = max(error, EPSILON * abs(level))
    more = float(np.log(1.5))
    return Trend(level=level, gain=-slope * more, error=error * more)


def reach(history: History) -> Float[Any, " logs"]:
    """Return what each measured step promised, over all that its loss could fall by.

    That is -g.dw / (loss - floor), the length of the step in those of Polyak: at 1
    the slope alone would bring the loss to its floor, and a parabola that stays above
    the floor has its bottom before 2. NaN where a part is not known; a loss that is
    never negative is taken to have a floor of 0.
    """
    loss, none = history.loss, np.full(len(history.steps), np.nan)
    if loss is None or not len(loss.values) or not history.courses:
        return none
    floor = history.floor
    if floor is None:
        with np.errstate(invalid="ignore"):
            if not (loss.values >= 0).any() or (loss.values < 0).any():
                return none
        floor = 0.0
    slopes = np.array([course.slope for course in history.courses.values()])
    known = ~np.isnan(slopes).all(axis=0)
    promised = np.where(known, -np.nansum(slopes, axis=0), np.nan)
    left = at(loss, history.steps) - floor
    left[~(left > 0)] = np.nan
    return promised / left


def at(loss: Losses, steps: Any) -> Float[Any, " steps"]:
    """Return the loss of each step; that after it where a long run's are thinned."""
    place = np.searchsorted(loss.steps, steps)
    found = np.append(loss.values, np.nan)[place]
    found[~np.isfinite(found)] = np.nan
    return found


def middle(values: Float[Any, " logs"]) -> float | None:
    """Return the median of what is known."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def _part(steps: Any, values: Any, begin: float, end: float) -> Any:
    return values[(steps >= begin) & (steps < end)]


def _swing(values: Float[Any, " known"]) -> float:
    """Return the standard deviation about a trend, by the differences of neighbours."""
    return float(np.sqrt(np.mean(np.diff(values) ** 2) / 2)) if len(values) > 1 else 0.0


def _level(values: Float[Any, " known"]) -> float:
    """Return the median of means: what it costs on average, without single spikes."""
    if not len(values):
        return inf
    groups = np.array_split(values, min(GROUPS, len(values)))
    return float(np.median([group.mean() for group in groups]))


def _to_learn(history: History) -> float | None:
    constant, floor = history.constant, history.floor
    if constant is None or floor is None or not isfinite(constant - floor):
        return None
    return constant - floor if constant - floor > 1e-3 * abs(constant) else None


def _learnt(
    history: History, to_learn: float | None, level: float, error: float
) -> float | None:
    """Return the share of what the best constant leaves that has been learnt.

    None where this is not known, or the loss holds more than the outputs' (it is below
    the floor), or its noise hides the share of a loss that is not worse than it.
    """
    if to_learn is None or history.constant is None:
        return None
    share, blur = (history.constant - level) / to_learn, error / to_learn
    return share if share < 1 + MOST and (blur < 0.25 or share < -SURE * blur) else None
