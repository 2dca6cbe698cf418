"""What a loss on classes wants outputs to be, seen on both sides of 0 and 1."""

from itertools import pairwise

import torch

from plumbob.survey.aimed import Aimed
from plumbob.survey.loss_at import Laid, LossAt, Point

_WRONG = (-8, -4, -2, -1)  # scores, from the worst
_FAR = (4, 8, 16, 32)


def wants(at: LossAt, aim: Aimed, inside: Laid, base: Point) -> str | None:
    """Return "numbers", "log-probabilities", "probabilities", "scores" or None.

    Why:
        Beyond the target a regression loss rises again, and at it has no slope. A
        loss on probabilities breaks or is flat where the unit that is meant has a
        negative one; a loss on scores falls from there on, ever less steeply. One
        that is linear falls without an end, unless a log-probability ends at 0.

    Args:
        at: the loss.
        aim: the targets.
        inside: outputs among the probabilities.
        base: the loss there.
    """
    if aim.hot is None or aim.values is None:
        return None
    hot = aim.hot
    seen = base.slope != 0
    meant = seen & (hot == 1) if aim.kind == "shares" else seen
    exact, wrong = at(aim.values), at(torch.where(hot == 1, -1.0, 2.0).to(hot))
    past = at(torch.where(hot == 1, 1.5, -0.5).to(hot))
    if _linear(at, aim, base, wrong, exact):
        return "log-probabilities"
    sloped = bool((wrong.slope[seen] != 0).all()) and _finite(wrong)
    still = float(exact.slope.norm()) <= 1e-3 * float(base.slope.norm())
    if sloped and still and exact.value < past.value < wrong.value:
        return "numbers"
    if not _finite(wrong) or bool((wrong.slope[meant] == 0).all()):
        return "probabilities"
    return "scores" if _scored(at, hot, meant, wrong) else None


def _finite(point: Point) -> bool:
    return point.value == point.value and bool(point.slope.isfinite().all())


def _linear(at: LossAt, aim: Aimed, base: Point, wrong: Point, exact: Point) -> bool:
    """Say whether it is minus a weighted sum of what each target names.

    One minus a probability is so too, but is never negative.
    """
    same = torch.allclose(base.slope, wrong.slope, rtol=at.close, atol=0)
    named = bool((base.slope[aim.values == 0] == 0).all())
    return same and named and bool((base.slope <= 0).all()) and exact.value < 0


def _scored(at: LossAt, hot: Laid, meant: torch.Tensor, wrong: Point) -> bool:
    """Say whether it falls towards the target all the way, but not for ever."""
    towards = torch.where(hot == 1, wrong.slope < 0, wrong.slope >= 0)
    if not bool(towards[meant].all()):
        return False
    values = [at(s * (2 * hot - 1)).value for s in (*_WRONG, *_FAR)]
    falls = [a - b for a, b in pairwise(values)]
    worse, far = falls[: len(_WRONG) - 1], falls[len(_WRONG) :]
    return all(fall > 0 for fall in worse) and far[-1] <= far[0] + abs(values[4]) / 100
