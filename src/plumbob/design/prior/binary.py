"""The best constant of a head with one score for yes or no."""

from typing import Any

import torch
from torch import Tensor

from plumbob.errors import InputError


def rate(y: Any, weight: Any = None) -> Tensor:
    """Return p = sum(w y) / sum(w) over the first axis.

    Where all of a label are 0 or all are 1 it is (k + 1/2) / (n + 1), Jeffreys', so
    that its log-odds are finite.
    """
    y = torch.as_tensor(y, dtype=torch.float64)
    w = torch.ones_like(y) if weight is None else torch.as_tensor(weight)
    w = w.double().reshape(w.shape + (1,) * (y.ndim - w.ndim)).expand(y.shape)
    p = (w * y).sum(0) / w.sum(0)
    n = (w != 0).double().sum(0)
    return torch.where((p <= 0) | (p >= 1), (p.clamp(0, 1) * n + 0.5) / (n + 1), p)


def log_odds(p: Any, *, pos_weight: Any = 1.0, smoothing: float = 0.0) -> Tensor:
    """Return log(p / (1 - p)) + log w of p (1 - eps) + eps / 2.

    For cross-entropy and the Brier score on a sigmoid, for each label or each class
    against the rest. torch applies pos_weight to the smoothed target.

    Example:
        >>> log_odds(0.01).item(), log_odds(0.01, pos_weight=99).abs().item() < 1e-12
        (-4.59511985013459, True)
    """
    p = torch.as_tensor(p, dtype=torch.float64) * (1 - smoothing) + smoothing / 2
    return torch.logit(p) + torch.as_tensor(pos_weight, dtype=torch.float64).log()


def exponential(p: Any) -> Tensor:
    """Return log(p / (1 - p)) / 2, for E exp(-y b) with y = -1, 1 (AdaBoost)."""
    return torch.logit(torch.as_tensor(p, dtype=torch.float64)) / 2


def squared_hinge(p: Any) -> Tensor:
    """Return 2 p - 1, for E max(0, 1 - y b)^2."""
    return 2 * torch.as_tensor(p, dtype=torch.float64) - 1


def hinge(p: Any) -> tuple[Tensor, Tensor]:
    """Return the interval for E max(0, 1 - y b): sign(2 p - 1), or [-1, 1] at 1/2.

    The majority's sign: it carries no prior.
    """
    sign = (2 * torch.as_tensor(p, dtype=torch.float64) - 1).sign()
    tie = sign == 0
    return torch.where(tie, -1.0, sign), torch.where(tie, 1.0, sign)


def noisy(p: Any, *, false_positive: float, false_negative: float) -> Tensor:
    """Return the log-odds of (p - r0) / (1 - r0 - r1), for forward-corrected labels.

    r0 = P(label 1 | 0), r1 = P(label 0 | 1).

    Raises:
        InputError: p is not between r0 and 1 - r1.
    """
    p = torch.as_tensor(p, dtype=torch.float64)
    if bool(((p <= false_positive) | (p >= 1 - false_negative)).any()):
        raise InputError(
            f"expected a rate between {false_positive:g} and {1 - false_negative:g}, "
            f"which such noise can give, got {p.tolist()}; check the noise rates"
        )
    return torch.logit((p - false_positive) / (1 - false_positive - false_negative))


def probit(p: Any) -> Tensor:
    """Return Phi^-1(p)."""
    return torch.special.ndtri(torch.as_tensor(p, dtype=torch.float64))


def cloglog(p: Any) -> Tensor:
    """Return log(-log(1 - p)), for 1 - exp(-exp(b))."""
    return (-torch.log1p(-torch.as_tensor(p, dtype=torch.float64))).log()
