"""The best constant shift of given scores, through any loss."""

from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plumbob.errors import InputError, one_line
from plumbob.survey.curve import Curve
from plumbob.survey.guard import same_random


class _BrokeError(InputError):
    """The user's loss raised."""


def best_shift(
    loss: Callable[..., Any],
    scores: Float[Tensor, "samples ..."],
    y: Tensor,
    *,
    weight: Tensor | None = None,
    name: str,
) -> Float[Tensor, " units"]:
    """Return the shift of the scores with the lowest loss, searched in float64.

    Where the loss does not see what all units share, it has mean 0. A function that
    knows only float32 gets that; a module is expected to be of float64.

    Args:
        loss: called as `loss(scores + shift, y)`; what it returns is averaged.
        scores: of all samples, or (N,) for one unit.
        y: the targets.
        weight: of samples, or of the single numbers that the loss returns.
        name: of the loss, for messages.

    Raises:
        InputError: the loss fails, does not see the shift, or falls for ever.
    """
    dtypes = [torch.float64, torch.float32][: 1 if isinstance(loss, nn.Module) else 2]
    failed: list[_BrokeError] = []
    for dtype in dtypes:
        z = scores.detach().cpu().to(dtype)
        total = partial(_total, loss=loss, shape=z.shape, weight=weight)
        aim = y.to(dtype) if y.is_floating_point() else y
        curve = Curve(z[:, None] if z.ndim == 1 else z, 1, partial(total, y=aim))
        try:
            return _lowest(curve, name, list(y.shape))
        except _BrokeError as error:
            failed.append(error)
    raise failed[0]


def _lowest(curve: Curve, name: str, shape: list[int]) -> Tensor:
    try:
        with same_random():
            shift, low = curve.lowest()
            others = [curve.height(shift + step) for step in (1, -2)]
    except InputError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise _BrokeError(
            f"{name} failed on outputs {list(curve.z.shape)} and targets {shape}: "
            f"{one_line(error)}; pass what the training loop feeds it"
        ) from error
    if not isfinite(low):
        raise InputError(
            f"{name} keeps falling as the output is shifted, or is not finite; give "
            "targets that hold each class, and each class a weight above 0"
        )
    near = (1e-9 if shift.dtype is torch.float64 else 1e-6) * max(1.0, abs(low))
    free = all(abs(other - low) <= near for other in others)
    if free and len(shift) == 1:
        raise InputError(
            f"{name} does not see a constant added to the output (as Cox and ranking "
            "losses do not); its bias is free, leave it as it is"
        )
    return (shift - shift.mean() if free else shift).double()


def _total(
    z: Tensor,
    *,
    y: Tensor,
    loss: Callable[..., Any],
    shape: torch.Size,
    weight: Tensor | None,
) -> Tensor:
    value = loss(z.reshape(shape), y)
    if not isinstance(value, Tensor):
        raise InputError(
            f"expected a loss that returns a tensor, got {type(value).__name__}"
        )
    if weight is None:
        return value.mean()
    if not value.ndim or len(value) != len(z):
        raise InputError(
            f"expected a loss of each sample beside weight=, got {list(value.shape)} "
            f"for {len(z)} samples; let it reduce nothing, or weight inside it"
        )
    share = (weight / weight.sum()).to(value.dtype)
    return (value * share.reshape(share.shape + (1,) * (value.ndim - share.ndim))).sum()
