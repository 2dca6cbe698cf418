"""What an activation makes of the net inputs that were kept."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from plumbob.survey.normal import ACTIVATIONS
from plumbob.types import Activity

KEPT = 243  # rows: a median is known to 0.08 sd, for little memory
GRID = torch.linspace(-6, 6, 1201, dtype=torch.float64)


def watched(activation: str | None) -> bool:
    """Return whether rows of z are kept for an activation of this name."""
    return activation in ACTIVATIONS


def activity(activation: str, z: Float[Any, "kept out"]) -> Activity | None:
    """Return the facts of f(z) at every unit; None where nothing finite was kept."""
    if not len(z) or not np.isfinite(z).all():
        return None
    value, slope = _with_slope(activation, torch.from_numpy(z))
    _, steep = _with_slope(activation, GRID)
    spread = (value - value.mean(0)).abs().mean(0)
    return Activity(
        median=np.median(z, axis=0),
        spread=spread.numpy(),
        slope=(slope.abs().mean(0) / steep.abs().max()).numpy(),
    )


def _with_slope(name: str, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        z = z.clone().requires_grad_()
        value = ACTIVATIONS[name](z)
        (slope,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), slope
