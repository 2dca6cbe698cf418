"""The best constant of heads for times that may be censored.

A Cox head has none: its partial likelihood does not see a constant.
"""

from typing import Any

import torch
from torch import Tensor


def exponential(time: Any, event: Any) -> Tensor:
    """Return log(events / time at risk): the log of the hazard."""
    return weibull(time, event, shape=1.0)


def weibull(time: Any, event: Any, *, shape: float) -> Tensor:
    """Return log(events / sum t^k) for the fixed shape k; no event counts 1/2.

    The hazard is exp(b) k t^(k - 1).
    """
    time = torch.as_tensor(time, dtype=torch.float64)
    events = torch.as_tensor(event, dtype=torch.float64).sum(0)
    return (torch.where(events == 0, 0.5, events) / (time**shape).sum(0)).log()


def hazards(events: Any, at_risk: Any) -> Tensor:
    """Return the log-odds of d_j / n_j per interval; Jeffreys' where it is 0 or 1."""
    d = torch.as_tensor(events, dtype=torch.float64)
    n = torch.as_tensor(at_risk, dtype=torch.float64)
    edge = (d == 0) | (d == n)
    return torch.logit(torch.where(edge, (d + 0.5) / (n + 1), d / n))
