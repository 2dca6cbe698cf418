"""Theorems whose parameters are already as mending leaves them."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plumbob.errors import InputError
from plumbob.survey.edit import common_part
from plumbob.survey.writable import plain
from plumbob.types import Proof


def settled(model: nn.Module, proofs: Iterable[Proof]) -> frozenset[Proof]:
    """Return the theorems along whose directions there is nothing left to take.

    Where all values are 0 that may only be how they start: they count as settled where
    the parameter is frozen, or other rows of it are not 0. A common part counts as
    gone where it is no more than rounding.
    """
    return frozenset(proof for proof in proofs if _settled(model, proof))


def _settled(model: nn.Module, proof: Proof) -> bool:
    try:
        values = plain(model, proof.parameter)
    except InputError:  # it holds no values of its own
        return False
    trained = model.get_parameter(proof.parameter).requires_grad
    low, high = proof.rows
    own = values.narrow(proof.axis, low, high - low)
    if trained and not values.any():
        return False
    if proof.direction == "each":
        return not own.any()
    return centred(own, proof.groups, proof.axis)


def centred(values: Float[Tensor, "..."], groups: int = 1, axis: int = 0) -> bool:
    """Return whether the mean of each group along an axis is 0 but for rounding."""
    wide = [(0, values.cpu().double())]  # mps has no float64
    eps = torch.finfo(values.dtype).eps
    return common_part(wide, (0, values.shape[axis]), groups, axis, eps) is None
