"""The best constant of a log-link head: counts and positive amounts.

An exposure e enters the score as log e, beside the bias.
"""

from typing import Any

import torch
from torch import Tensor


def _values(y: Any, exposure: Any) -> tuple[Tensor, Tensor]:
    y = torch.as_tensor(y, dtype=torch.float64)
    e = torch.ones_like(y) if exposure is None else torch.as_tensor(exposure).double()
    return y, e


def _above(total: Tensor) -> Tensor:
    """Return the total, or 1/2 (Jeffreys) where nothing was counted."""
    return torch.where(total == 0, 0.5, total)


def poisson(y: Any, exposure: Any = None) -> Tensor:
    """Return log(sum y / sum e)."""
    y, e = _values(y, exposure)
    return (_above(y.sum(0)) / e.sum(0)).log()


def gamma(y: Any, exposure: Any = None) -> Tensor:
    """Return log mean(y / e)."""
    y, e = _values(y, exposure)
    return (y / e).mean(0).log()


def tweedie(y: Any, power: float, exposure: Any = None) -> Tensor:
    """Return log(sum y e^(1 - r) / sum e^(2 - r)) for the power r, between 1 and 2."""
    y, e = _values(y, exposure)
    return (_above((y * e ** (1 - power)).sum(0)) / (e ** (2 - power)).sum(0)).log()


def negative_binomial(y: Any) -> Tensor:
    """Return log mean(y), whatever the fixed dispersion; without an exposure."""
    return poisson(y)


def zero_inflated(y: Any) -> tuple[Tensor, Tensor]:
    """Return the log-odds of an extra zero and log lambda of a zero-inflated Poisson.

    lambda / (1 - exp(-lambda)) is the mean of the positive counts; the weight of the
    extra zeros is 1 - mean / lambda. It is -inf where there are none to explain.
    """
    y = torch.as_tensor(y, dtype=torch.float64)
    aim = y[y > 0].mean()
    low, high = torch.zeros_like(aim), aim
    for _ in range(100):
        middle = (low + high) / 2
        small = middle / -torch.expm1(-middle) < aim
        low, high = torch.where(small, middle, low), torch.where(small, high, middle)
    extra = (1 - y.mean() / high).clamp_min(0)
    return torch.logit(extra), high.log()
