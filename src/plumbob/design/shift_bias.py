"""A shift is added to biases: the prior of the output."""

from collections.abc import Sequence

import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.writable import writable


def shift_bias(
    model: nn.Module, *, parameter: str, units: Sequence[int], shift: Sequence[float]
) -> None:
    """Add numbers to units of a bias, in place.

    Why:
        A constant of the output is free where the output has a bias; what the network
        would else have to learn through all of its weights is written down at once.

    Args:
        model: what to change.
        parameter: the bias, by its full name.
        units: which of its elements, counted in the order of memory.
        shift: one finite number for each of them.

    Raises:
        InputError: there is no such parameter or element, the numbers do not fit or
            are not finite; or it is shared, frozen, computed, quantised or
            distributed.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2))
        >>> _ = nn.init.zeros_(model[0].bias)
        >>> shift_bias(model, parameter="0.bias", units=[1], shift=[-4.5])
        >>> model[0].bias.tolist()
        [0.0, -4.5]
    """
    bias = writable(model, parameter)
    count = bias.numel()
    if len(units) != len(shift) or any(not 0 <= unit < count for unit in units):
        raise InputError(
            f"expected units from 0 to {count - 1} of {parameter} "
            f"{list(bias.shape)} and a number for each, got {len(shift)} numbers for "
            f"{len(units)} units; check the model that is to be mended"
        )
    flat = bias.detach().view(-1)
    at = torch.tensor(units, dtype=torch.long, device=bias.device)
    new = flat[at].double() + torch.tensor(shift, dtype=torch.float64).to(flat.device)
    new = new.to(bias.dtype)
    if not bool(new.isfinite().all()):
        raise InputError(
            f"expected sums that {bias.dtype} holds in {parameter} "
            f"{list(bias.shape)}, got {new.tolist()}; mend what makes them first"
        )
    flat[at] = new
