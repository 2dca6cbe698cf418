"""The best constant under the focal loss, which is not proper.

The root is not log(p / (1 - p)): at p = 1e-5, gamma = 2, alpha = 1/4 it is -4.54, not
-11.5.
"""

from math import log
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def _log_slope(b: Tensor, gamma: float) -> Tensor:
    """Return log of (1-q)^g [(1-q) - g q log q] at q = sigmoid(b)."""
    log_q, log_rest = logsigmoid(b), logsigmoid(-b)
    # both terms are positive; log(-log q) is safe where q rounds to 1
    minus = torch.where(b > 30, log_rest, (-log_q).clamp_min(1e-300).log())
    first = (1 + gamma) * log_rest
    if gamma == 0:
        return first
    second = log(gamma) + gamma * log_rest + log_q + minus
    return torch.logaddexp(first, second)


def log_odds_of(b: Any, *, gamma: float = 2.0, alpha: float = 0.5) -> Tensor:
    """Return the log-odds of the rate whose best score is b, in closed form."""
    b = torch.as_tensor(b, dtype=torch.float64)
    return log((1 - alpha) / alpha) + _log_slope(-b, gamma) - _log_slope(b, gamma)


def binary(p: Any, *, gamma: float = 2.0, alpha: float = 0.5) -> Tensor:
    """Return the root of alpha p s(b) = (1 - alpha)(1 - p) s(-b), by bisection.

    s(b) = (1-q)^g [(1-q) - g q log q] at q = sigmoid(b). alpha weights the positives;
    without weights it is 1/2. For small p the root is near (log-odds(p) +
    log-odds(alpha) - log(1 + g)) / (1 + g).

    Example:
        >>> round(binary(1e-5, gamma=2.0, alpha=0.25).sigmoid().item(), 5)
        0.01058

    References:
        Lin et al. (2017), Focal loss for dense object detection, sections 3.2 and 4.1.
    """
    aim = torch.logit(torch.as_tensor(p, dtype=torch.float64))
    low, high = torch.full_like(aim, -700.0), torch.full_like(aim, 700.0)
    for _ in range(80):
        middle = (low + high) / 2
        below = log_odds_of(middle, gamma=gamma, alpha=alpha) < aim
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def classes(pi: Any, *, gamma: float = 2.0) -> Float[Tensor, " classes"]:
    """Return log q, centred, with -pi_k l'(q_k) the same for all k and sum q = 1.

    l(q) = -(1-q)^g log q; both roots by bisection. pi may hold class weights.
    """
    pi = torch.as_tensor(pi, dtype=torch.float64)

    def at(level: Tensor) -> Tensor:  # q where the slope is exp(level), as log-odds
        low, high = torch.full_like(pi, -700.0), torch.full_like(pi, 36.0)
        for _ in range(80):
            middle = (low + high) / 2
            # -l'(q) = (1-q)^(g-1) [(1-q) - g q log q] / q
            rest = logsigmoid(middle) + logsigmoid(-middle)
            steep = _log_slope(middle, gamma) - rest + pi.log() > level
            low, high = (
                torch.where(steep, middle, low),
                torch.where(steep, high, middle),
            )
        return (low + high) / 2

    low, high = pi.new_tensor(-60.0), pi.new_tensor(60.0)
    for _ in range(80):
        level = (low + high) / 2
        full = at(level).sigmoid().sum() > 1
        low, high = torch.where(full, level, low), torch.where(full, high, level)
    log_q = logsigmoid(at((low + high) / 2))
    return log_q - log_q.mean()
