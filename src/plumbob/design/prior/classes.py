"""The best constant of a softmax over exclusive classes.

What all scores share is not seen by a softmax: each result has mean 0.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plumbob.errors import InputError


def shares(
    y: Any, classes: int, weight: Any = None, *, absent: float = 0.5
) -> Float[Tensor, " classes"]:
    """Return the shares of class indices; an absent class counts 1/2 (Jeffreys).

    Raises:
        InputError: an index is no class, or there is none.
    """
    y = torch.as_tensor(y).flatten()
    if not len(y) or int(y.min()) < 0 or int(y.max()) >= classes:
        low, high = (int(y.min()), int(y.max())) if len(y) else ("none", "none")
        raise InputError(
            f"expected class indices from 0 to {classes - 1}, got {low} to {high} in "
            f"targets {list(y.shape)}; pass ignore_index, or a head of as many classes"
        )
    w = torch.ones(len(y)) if weight is None else torch.as_tensor(weight).flatten()
    counts = torch.bincount(y, weights=w.double(), minlength=classes)
    counts = torch.where(counts == 0, absent, counts)
    return counts / counts.sum()


def log_shares(
    pi: Any,
    *,
    weight: Any = 1.0,
    smoothing: float = 0.0,
    adjustment: float = 0.0,
    temperature: float = 1.0,
) -> Float[Tensor, " classes"]:
    """Return T (log(w_k ((1 - eps) pi_k + eps / K)) - tau log pi_k), centred.

    `weight` and `smoothing` are those of torch's CrossEntropyLoss, which weights the
    smooth term too. `adjustment` is tau of a loss that sees z / T + tau log pi: at 1
    (balanced softmax) the best constant is 0, and log pi would count twice.
    `temperature` is a fixed T by which the loss divides the scores.

    Example:
        >>> round(log_shares([0.9, 0.1]).diff().exp().item(), 6)
        0.111111
        >>> log_shares([0.9, 0.1], adjustment=1.0).abs().max().item()
        0.0
    """
    pi = torch.as_tensor(pi, dtype=torch.float64)
    soft = (1 - smoothing) * pi + smoothing / len(pi)
    raw = soft.log() + torch.as_tensor(weight, dtype=torch.float64).log()
    raw = temperature * (raw - torch.xlogy(adjustment, pi))
    return raw - raw.mean()
