"""A shift is added to biases: the prior of the output."""

from collections.abc import Sequence

import torch
from torch import nn

from plumbob.survey.units import change_bias


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
        InputError: there is no such parameter or element, one is named twice, the
            numbers do not fit or are not finite; or it is shared, frozen, computed,
            quantised or distributed.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2))
        >>> _ = nn.init.zeros_(model[0].bias)
        >>> shift_bias(model, parameter="0.bias", units=[1], shift=[-4.5])
        >>> model[0].bias.tolist()
        [0.0, -4.5]
    """
    change_bias(model, parameter, units, shift, torch.add)
