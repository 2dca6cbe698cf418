"""Biases are set to given values: thresholds of dead, linear or stuck units."""

from collections.abc import Sequence

import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.writable import writable


def set_bias(
    model: nn.Module, *, parameter: str, units: Sequence[int], values: Sequence[float]
) -> None:
    """Write values to units of a bias, in place.

    Why:
        z = w.x + b has the mean w.mu + b, so that b = -w.mu puts the threshold in the
        middle of what the unit sees: a ReLU fires on about half of the inputs, and a
        bounded unit works where its curve is steep.

    Args:
        model: what to change.
        parameter: the bias, by its full name.
        units: which of its elements, counted in the order of memory.
        values: one finite number for each of them.

    Raises:
        InputError: there is no such parameter or element, the numbers do not fit or
            are not finite; or it is shared, frozen, computed, quantised or
            distributed.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3))
        >>> set_bias(model, parameter="0.bias", units=[0, 2], values=[1.0, -1.0])
        >>> model[0].bias[[0, 2]].tolist()
        [1.0, -1.0]
    """
    bias = writable(model, parameter)
    count = bias.numel()
    if len(units) != len(values) or any(not 0 <= unit < count for unit in units):
        raise InputError(
            f"expected units from 0 to {count - 1} of {parameter} "
            f"{list(bias.shape)} and a value for each, got {len(values)} values for "
            f"{len(units)} units; check the model that is to be mended"
        )
    new = torch.tensor(values, dtype=torch.float64, device=bias.device).to(bias.dtype)
    if not bool(new.isfinite().all()):
        raise InputError(
            f"expected values that {bias.dtype} holds for {parameter} "
            f"{list(bias.shape)}, got {list(values)}; mend what makes them first"
        )
    flat = bias.detach().view(-1)
    flat[torch.tensor(units, dtype=torch.long, device=bias.device)] = new
