"""The best constant of a head that predicts a number."""

from math import ceil, floor
from typing import Any

import torch
from torch import Tensor

_FEW = 10_000  # samples for a first guess


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
    edge = 1e-12
    y = torch.as_tensor(y, dtype=torch.float64)
    top = len(y) - 1
    if weight is None:  # no sort, which takes ten times as long
        first = max(0, ceil((level - edge) * len(y)) - 1)
        last = min(top, floor((level + edge) * len(y)))
        return y.kthvalue(first + 1, 0)[0], y.kthvalue(last + 1, 0)[0]
    y, w = _values(y, weight)
    y, order = y.sort(0)
    below = w.gather(0, order).cumsum(0) / w.sum(0)
    low = (below < level - edge).sum(0, keepdim=True).clamp_max(top)
    high = (below <= level + edge).sum(0, keepdim=True).clamp_max(top)
    return y.gather(0, low)[0], y.gather(0, high)[0]


def huber(y: Any, delta: float = 1.0, weight: Any = None) -> tuple[Tensor, Tensor]:
    """Return the interval of roots of sum w clip(y - b, -delta, delta).

    Nearly always a point. torch's SmoothL1Loss has delta = beta.
    """
    y, w = _values(y, weight)
    few = max(1, len(y) // _FEW)
    start = mean(y, w)
    if few > 1:  # near the root of all
        start = _huber_root(y[::few], w[::few], delta, start, side=0)
    low = _huber_root(y, w, delta, start, side=1)
    return low, _huber_root(y, w, delta, low, side=-1)


def _huber_root(y: Tensor, w: Tensor, delta: float, b: Tensor, *, side: int) -> Tensor:
    """Return an end of the roots: Newton's method, bisection where it leaves them."""
    bound = side * 1e-13 * delta * w.sum(0)
    low, high = y.amin(0), y.amax(0)
    for _ in range(100):
        far = y - b
        inside = (w * (far.abs() <= delta)).sum(0)
        pull = (w * far.clamp_(-delta, delta)).sum(0) - bound
        low, high = torch.where(pull > 0, b, low), torch.where(pull > 0, high, b)
        step = b + pull / inside
        new = torch.where((low < step) & (step < high), step, (low + high) / 2)
        still = (pull / inside).abs() <= 1e-14 * b.abs().clamp_min(delta)
        new = torch.where(still, b, new)
        if bool(((new - b).abs() <= 1e-14 * b.abs().clamp_min(delta)).all()):
            break
        b = new
    return b


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
