"""How far the outputs of two models are from each other."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

Outputs = Sequence[Tensor]
Masks = Sequence[Bool[Tensor, "..."]]

LARGE = 1e3  # times what an ulp of the parameters moves: chance leaves no such value


def moving(truth: Outputs, jittered: Outputs) -> list[Tensor]:
    """Return where outputs are what is computed and not what a mask was filled with.

    That does not depend on the parameters, and next to -1e9 any change would be small.
    Of whole numbers it is where these are sure: the next best may be as good.

    Args:
        truth: the outputs of a model.
        jittered: those of the model with parameters that are a little off.
    """
    found: list[Tensor] = []
    for a, b in zip(truth, jittered, strict=True):
        if not a.is_floating_point():
            found.append(a == b)
            continue
        finite = a.isfinite()
        moved = a[finite & (a != b)].abs()
        most = LARGE * float(moved.max()) if moved.numel() else torch.inf
        found.append(finite & ((a != b) | (a.abs() <= most)))
    return found


def distance(
    now: Outputs, truth: Outputs, moved: Masks, *, everywhere: bool = True
) -> float:
    """Return the largest change of any output, relative to its largest value.

    What is not finite, and whole numbers, must stay what they are.

    Args:
        now: the outputs.
        truth: what they were.
        moved: where it is computed: the largest value is one of these.
        everywhere: compare all values, not just these.
    """
    if [t.shape for t in now] != [t.shape for t in truth]:
        return float("inf")
    worst = 0.0
    for a, b, where in zip(now, truth, moved, strict=True):
        if not b.is_floating_point():
            if everywhere and bool((a != b)[where].any()):
                return float("inf")
            continue
        a, finite = a.to(b), b.isfinite()
        same = torch.allclose(a[~finite], b[~finite], equal_nan=True)
        if not (same and torch.equal(a.isfinite(), finite)):
            return float("inf")
        here = finite if everywhere else finite & where
        if bool(here.any()):
            some = finite & where if bool((finite & where).any()) else finite
            scale = b[some].abs().max().clamp_min(torch.finfo(b.dtype).tiny)
            worst = max(worst, float((a - b)[here].abs().max() / scale))
    return worst
