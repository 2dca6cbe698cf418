"""The best constants of heads for ordered classes 0 to K - 1, from their shares."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def _below(pi: Any) -> Tensor:
    """Return P(y <= k) for all k but the last."""
    return torch.as_tensor(pi, dtype=torch.float64).cumsum(0)[:-1]


def cut_points(pi: Any) -> Float[Tensor, " cuts"]:
    """Return the log-odds of the cumulative shares (proportional odds)."""
    return torch.logit(_below(pi))


def probit_cut_points(pi: Any) -> Float[Tensor, " cuts"]:
    """Return Phi^-1 of the cumulative shares (ordered probit)."""
    return torch.special.ndtri(_below(pi))


def coral(pi: Any) -> Float[Tensor, " cuts"]:
    """Return the log-odds of P(y > k), k from 0."""
    return -torch.logit(_below(pi))


def corn(pi: Any) -> Float[Tensor, " cuts"]:
    """Return the log-odds of P(y > k | y >= k), k from 0."""
    above = torch.cat([torch.ones(1, dtype=torch.float64), 1 - _below(pi)])
    return torch.logit(above[1:] / above[:-1])
