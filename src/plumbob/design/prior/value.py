"""The best constant of a head that predicts discounted returns."""

from typing import Any

import torch

from plumbob.errors import InputError


def value_bias(rewards: Any, gamma: float, *, optimistic: bool = False) -> float:
    """Return E[r] / (1 - gamma), or the largest reward's, r_max / (1 - gamma).

    Why:
        A shift b of all values adds (gamma - 1) b to every temporal difference
        r + gamma V' - V: with E[r] / (1 - gamma) it starts with mean 0. The optimistic
        value makes what has not been tried look best.

    Args:
        rewards: of single steps, of any shape.
        gamma: the discount, from 0 to below 1.
        optimistic: take the largest reward for all.

    Raises:
        InputError: there is no finite reward, or gamma is not in [0, 1).

    Example:
        >>> value_bias([0.0, 1.0, 0.0, 1.0], 0.5)
        1.0

    References:
        Sutton and Barto (2018), Reinforcement learning, section 2.6 (optimism).
    """
    r = torch.as_tensor(rewards, dtype=torch.float64)
    if not r.numel() or not bool(r.isfinite().all()):
        raise InputError(f"expected finite rewards, got {list(r.shape)}; check them")
    if not 0 <= gamma < 1:
        raise InputError(
            f"expected a discount of 0 to below 1, got {gamma:g}; for episodes without "
            "discount pass their mean return to the bias"
        )
    return float(r.max() if optimistic else r.mean()) / (1 - gamma)
