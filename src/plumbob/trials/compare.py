"""Paired differences over seeds, their intervals, and what may be claimed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import comb, cos, isfinite, nan, pi, sin, sqrt, tan
from statistics import fmean, variance

from plumbob.trials.record import Run

FEWEST = 3  # seeds for a verdict
SMALLEST = 1e-3  # of the loss as it is: less is not worth a claim

HELPS, HURTS, NONE = "helps", "hurts", "no difference seen"
TOO_FEW = "too few seeds"
ONE_SEED = "the seeds change nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A mean difference to the model as it is, and its interval (nan: unknown)."""

    mean: float
    low: float
    high: float

    def sign(self, smallest: float | int) -> int:
        """Return -1 or 1 where the interval leaves out 0 and the mean counts."""
        if not (abs(self.mean) > smallest and self.low * self.high > 0):
            return 0
        return 1 if self.mean > 0 else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One arm against the model as it is.

    `diverged` and `base_diverged` count runs, `censored` runs of either that never
    reach the level. Changes are of the seeds where neither diverged.
    """

    arm: str
    did: tuple[tuple[str, float], ...]  # act, sites on average
    loss: Change
    metric: Change | None
    steps: Change
    verdict: str
    diverged: int
    base_diverged: int
    censored: int


def compare(
    arm: Sequence[Run],
    base: Sequence[Run],
    *,
    alpha: float,
    every: int,
    level: float | None = None,
) -> Comparison:
    """Compare an arm with the model as it is, seed by seed.

    Why:
        Loss and steps are each judged at alpha / 2, so that where nothing differs a
        verdict is wrong in at most a share alpha of the comparisons (Bonferroni), as
        far as the differences are near normal; where both speak, the loss decides.
        Steps are known to `every` steps only: the variance of the difference of two
        such roundings, every^2 / 6, is the least that is believed. Where runs diverge,
        losses say little: the numbers of diverged runs are then compared instead, by
        Fisher's exact test at alpha; there is no verdict of so few seeds that even all
        runs of one side would not tell.

        The level is by default one for all seeds, the lowest that every run of both
        reaches: the highest of their lowest losses. So no run is censored and neither
        side is favoured. A level of each pair would be the lowest loss of one of its
        two runs, which the other passes early: differences keep away from 0, and of
        such Student's interval leaves out 0 too often. A level of the runs as it is
        alone would be reached by these always, and by others only if they are better.

    Args:
        arm: the runs of the arm, one for each seed.
        base: those of the model as it is, for the same seeds.
        alpha: the error rate of the verdict.
        every: steps between two validations.
        level: the loss to be reached; a run that does not counts as one validation
            more than it has.
    """
    pairs = [(a, b) for a, b in zip(arm, base, strict=True) if a.ended and b.ended]
    share = 1 - alpha / 2
    losses = [a.loss - b.loss for a, b in pairs]
    metrics = [
        a.metric - b.metric
        for a, b in pairs
        if a.metric is not None and b.metric is not None
    ]
    if level is None:
        lowest = [min(x for _, x, _ in run.curve) for pair in pairs for run in pair]
        level = max(lowest, default=nan)
    reached = [_reached(a, b, level, every) for a, b in pairs]
    loss = change(losses, share)
    steps = change([a - b for a, b, _ in reached], share, least=every**2 / 6)
    broken = sum(not run.ended for run in arm), sum(not run.ended for run in base)
    if len(arm) < FEWEST or (any(broken) and fisher(len(arm), 0, len(arm)) > alpha):
        verdict = TOO_FEW
    elif any(broken):
        sign = (broken[0] > broken[1]) - (broken[0] < broken[1])
        verdict = _word(sign if fisher(*broken, len(arm)) <= alpha else 0)
    elif len({run.curve for run in base}) == 1:
        verdict = ONE_SEED
    else:
        smallest = SMALLEST * abs(fmean(run.loss for run in base))
        verdict = _word(loss.sign(smallest) or steps.sign(every))
    return Comparison(
        arm=arm[0].arm,
        did=_did(arm),
        loss=loss,
        metric=change(metrics, share) if metrics else None,
        steps=steps,
        verdict=verdict,
        diverged=broken[0],
        base_diverged=broken[1],
        censored=sum(missed for *_, missed in reached),
    )


def _word(sign: int) -> str:
    return (NONE, HURTS, HELPS)[sign]


def _reached(a: Run, b: Run, level: float, every: int) -> tuple[int, int, int]:
    """Return the steps of two runs to a level, and how many of them miss it."""
    first = [
        next((step for step, loss, _ in run.curve if loss <= level), None)
        for run in (a, b)
    ]
    last = a.curve[-1][0] + every
    x, y = (last if step is None else step for step in first)
    return x, y, first.count(None)


def _did(arm: Sequence[Run]) -> tuple[tuple[str, float], ...]:
    acts = [act for run in arm for act, _ in run.did]
    return tuple((act, acts.count(act) / len(arm)) for act in dict.fromkeys(acts))


def change(
    differences: Sequence[float | int], share: float, *, least: float = 0.0
) -> Change:
    """Return the mean of paired differences with its Student interval.

    Args:
        differences: one for each seed.
        share: of such intervals that hold the truth, where differences are normal.
        least: the smallest variance of one difference that is believed; not where all
            differences are 0.

    Example:
        >>> print(change([-3.0, -1.0, -2.0], 0.95))
        Change(mean=-2.0, low=-4.484..., high=0.484...)
    """
    count = len(differences)
    if not count:
        return Change(mean=nan, low=nan, high=nan)
    mean = fmean(differences)
    if count == 1 or not isfinite(mean):
        return Change(mean=mean, low=nan, high=nan)
    spread = max(variance(differences), least if any(differences) else 0.0)
    half = student((1 + share) / 2, count - 1) * sqrt(spread / count)
    return Change(mean=mean, low=mean - half, high=mean + half)


@cache
def student(p: float, degrees: int) -> float:
    """Return the quantile of Student's t for p in (1/2, 1), to 1e-9 of its value.

    Raises:
        ValueError: p or the degrees of freedom are outside.

    Example:
        >>> round(student(0.975, 4), 6)
        2.776445

    References:
        Abramowitz and Stegun (1964), Handbook of mathematical functions, 26.7.3-4.
    """
    if not (0.5 < p < 1 and degrees > 0):
        raise ValueError(f"expected 1/2 < p < 1 and degrees >= 1, got {p}, {degrees}")
    low, high = 0.0, pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if _within(middle, degrees) < 2 * p - 1 else (low, middle)
        )
    return tan(low) * sqrt(degrees)


def _within(angle: float, degrees: int) -> float:
    """Return P(|t| < sqrt(degrees) tan(angle)), a finite sum for whole degrees."""
    odd = degrees % 2
    term = total = 0.0 if degrees == 1 else cos(angle) if odd else 1.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * cos(angle) ** 2
        total += term
    total *= sin(angle)
    return 2 / pi * (angle + total) if odd else total


def fisher(a: int, b: int, count: int) -> float:
    """Return Fisher's two-sided p of `a` against `b` cases in `count` runs each.

    Example:
        >>> fisher(5, 0, 5) == 2 / 252
        True
    """
    every = comb(2 * count, a + b)

    def ways(k: int) -> int:
        return comb(count, k) * comb(count, a + b - k)

    cases = range(max(0, a + b - count), min(count, a + b) + 1)
    return sum(ways(k) for k in cases if ways(k) <= ways(a)) / every
