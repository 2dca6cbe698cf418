"""The best constant of a head that predicts a number."""

from typing import Any

import torch
from torch import Tensor


def _values(y: Any, weight: Any) -> tuple[Tensor, Tensor]:
    y = torch.as_tensor(y, dtype=torch.float64)
    w = torch.ones_like(y) if weight is None else torch.as_tensor(weight).double()
    return y, w.reshape(w.shape + (1,) * (y.ndim - w.ndim)).expand(y.shape)


def mean(y: Any, weight: Any = None) -> Tensor:
    """Return the weighted mean over the first axis, for squared error."""
    y, w = _values(y, weight)
    return (w * y).sum(0) / w.sum(0)


def quantile(y: Any, level: float = 0.5, weight: Any = None) -> tuple[Tensor, Tensor]:
    """Return the interval of best constants of the pinball loss; 1/2 is absolute error.

    It is a point unless the weight at or below some value is exactly `level` of all.
    """
    y, w = _values(y, weight)
    y, order = y.sort(0)
    below = w.gather(0, order).cumsum(0) / w.sum(0)
    edge = 1e-12
    first = (below < level - edge).sum(0, keepdim=True)
    last = (below <= level + edge).sum(0, keepdim=True)
    top = len(y) - 1
    low, high = (y.gather(0, i.clamp_max(top))[0] for i in (first, last))
    return low, high


def huber(y: Any, delta: float = 1.0, weight: Any = None) -> tuple[Tensor, Tensor]:
    """Return the interval of roots of sum w clip(y - b, -delta, delta), by bisection.

    Nearly always a point. torch's SmoothL1Loss has delta = beta.
    """
    y, w = _values(y, weight)

    def pull(b: Tensor) -> Tensor:
        return (w * (y - b).clamp(-delta, delta)).sum(0)

    fine = 1e-13 * delta * w.sum(0)
    ends: list[Tensor] = []
    for bound in (fine, -fine):
        low, high = y.amin(0), y.amax(0)
        for _ in range(100):
            middle = (low + high) / 2
            up = pull(middle) > bound
            low, high = torch.where(up, middle, low), torch.where(up, high, middle)
        ends.append((low + high) / 2)
    return ends[0], ends[1]


def expectile(y: Any, level: float, weight: Any = None) -> Tensor:
    """Return the root of level E max(0, y - b) = (1 - level) E max(0, b - y)."""
    y, w = _values(y, weight)
    b = mean(y, w)
    for _ in range(100):  # Newton's method, exact once no value changes sides
        side = w * torch.where(y > b, level, 1 - level)
        b = (side * y).sum(0) / side.sum(0)
    return b


def gaussian(y: Any, weight: Any = None) -> tuple[Tensor, Tensor]:
    """Return the mean and the log of the population variance, for Gaussian NLL."""
    y, w = _values(y, weight)
    centre = mean(y, w)
    return centre, ((w * (y - centre).square()).sum(0) / w.sum(0)).log()


def softplus(scale: Any) -> Tensor:
    """Return s + log(1 - exp(-s)): what a softplus makes the scale s of."""
    s = torch.as_tensor(scale, dtype=torch.float64)
    return s + (-torch.expm1(-s)).log()


def laplace(y: Any, weight: Any = None) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return the interval of medians and the log of the mean absolute deviation."""
    y, w = _values(y, weight)
    low, high = quantile(y, 0.5, w)
    return (low, high), ((w * (y - low).abs()).sum(0) / w.sum(0)).log()


def tanh_mean(y: Any, weight: Any = None) -> Tensor:
    """Return atanh of the mean, for squared error of a tanh."""
    return torch.atanh(mean(y, weight))


def sigmoid_mean(y: Any, weight: Any = None) -> Tensor:
    """Return the log-odds of the mean, for squared error of a sigmoid."""
    return torch.logit(mean(y, weight))
