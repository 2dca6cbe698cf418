"""Biases are set to given values: thresholds of dead, linear or stuck units."""

from collections.abc import Sequence

from torch import nn

from plumbob.survey.units import change_bias


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
        InputError: there is no such parameter or element, one is named twice, the
            numbers do not fit or are not finite; or it is shared, frozen, computed,
            quantised or distributed.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3))
        >>> set_bias(model, parameter="0.bias", units=[0, 2], values=[1.0, -1.0])
        >>> model[0].bias[[0, 2]].tolist()
        [1.0, -1.0]
    """
    change_bias(model, parameter, units, values, lambda old, new: new)
