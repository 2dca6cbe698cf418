"""What sampling adds to a score. Offsets add: b = log-odds(p) + log w - log r + ..."""

from typing import Any

import torch
from torch import Tensor


def _log(x: Any) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float64).log()


def down_sampling(keep: Any) -> Tensor:
    """Return -log r: what keeping a share r of the negatives adds to the score.

    Trained so, a model is put right by adding log r to its bias.
    """
    return -_log(keep)


def pos_weight(w: Any) -> Tensor:
    """Return log w."""
    return _log(w)


def case_control(population: Any, sample: Any) -> Tensor:
    """Return -log[((1 - t) / t)(y / (1 - y))], to add to a bias fitted on the sample.

    t is the positive rate of the population, y that of the sample.

    References:
        King and Zeng (2001), Logistic regression in rare events data, section 4.1.
    """
    t = torch.as_tensor(population, dtype=torch.float64)
    return torch.logit(t) - torch.logit(torch.as_tensor(sample, dtype=torch.float64))


def prior_shift(old: Any, new: Any) -> Tensor:
    """Return log(pi_new / pi_old) per class, to add; right where p(x | y) stays."""
    return _log(new) - _log(old)


def noise_contrastive(pi: Any, noise: Any, negatives: int) -> Tensor:
    """Return log(pi / (k P_noise)) per item, for k negatives with a sigmoid each.

    With one constant for all items, and negatives in the data's own shares, it is
    -log k.
    """
    return _log(pi) - _log(noise) - _log(negatives)


def sampled_softmax(pi: Any, noise: Any, *, corrected: bool) -> Tensor:
    """Return log(pi / P_noise), or log pi if log(m P_noise) is taken off; centred."""
    raw = _log(pi) if corrected else _log(pi) - _log(noise)
    return raw - raw.mean()
