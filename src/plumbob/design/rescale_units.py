"""Units are scaled: their net input grows or shrinks and keeps its form."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.guard import or_as_before
from plumbob.survey.units import check_finite, check_units, layer_of
from plumbob.survey.writable import writable


def rescale_units(
    model: nn.Module,
    *,
    site: Mapping[str, Any],
    units: Sequence[int],
    factors: Sequence[float],
) -> None:
    """Multiply the weights and the bias of units, in place.

    Why:
        c (w.x + b) is the same net input, c times as large: a bounded unit whose z is
        too large comes back to where its curve is steep, with its threshold where it
        was.

    Args:
        model: what to change.
        site: the map, as `plumbob.remedies.layout` writes it down.
        units: which of its units.
        factors: one finite number for each of them.

    Raises:
        InputError: the map is not the model's, or is laid out in another way; a unit
            is not there or named twice; what comes out is not finite in the weight's
            dtype; or a parameter is shared, frozen, computed, quantised or
            distributed.

    Example:
        >>> from plumbob.remedies import layout
        >>> from plumbob.survey.trace import module_sites
        >>> model = nn.Sequential(nn.Linear(2, 3))
        >>> _ = nn.init.constant_(model[0].weight, 8.0)
        >>> site = layout(module_sites(model)[0])
        >>> rescale_units(model, site=site, units=[1], factors=[0.25])
        >>> model[0].weight[:, 0].tolist()
        [8.0, 2.0, 8.0]
    """
    layer = layer_of(model, site)
    if layer.site.bias:
        writable(model, layer.site.bias)
    check_units(units, layer.site.out, layer.site.name, factors)
    if not all(map(isfinite, factors)):
        raise InputError(
            f"expected finite factors for {layer.site.name}, got {list(factors)}; mend "
            "what makes them first"
        )
    times = torch.tensor(list(factors), dtype=torch.float64)
    matrix, vector, at = layer.matrix(), layer.vector(), list(units)
    rows = matrix[at].cpu().double() * times[:, None]
    matrix[at] = check_finite(rows, matrix, layer.site.weight).to(matrix.device)
    if vector is not None:
        some = vector[at].cpu().double() * times
        vector[at] = check_finite(some, vector, str(layer.site.bias)).to(vector.device)
    with or_as_before(layer.module), torch.no_grad():
        layer.write(matrix)
        if vector is not None:
            layer.shift(vector)
