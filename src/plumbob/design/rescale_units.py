"""Units are scaled: their net input grows or shrinks and keeps its form."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.layers import layers
from plumbob.survey.writable import writable
from plumbob.types import Site


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
            is not there; or a parameter is shared, frozen, computed, quantised or
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
    where = Site(**site)
    for name in filter(None, (where.weight, where.bias)):
        writable(model, name)
    found, unseen = layers(model, [where])
    layer = found.get(where.name)
    if layer is None:
        why = unseen.get(where.name, f"a {where.kind} has no rows")
        raise InputError(f"cannot scale units of {where.name}: {why}")
    if len(units) != len(factors) or any(not 0 <= unit < where.out for unit in units):
        raise InputError(
            f"expected units of {where.name} from 0 to {where.out - 1} and a factor "
            f"for each, got {len(factors)} factors for {len(units)} units; check the "
            "model that is to be mended"
        )
    if not all(map(isfinite, factors)):
        raise InputError(
            f"expected finite factors for {where.name}, got {list(factors)}; mend what "
            "makes them first"
        )
    matrix, vector = layer.matrix(), layer.vector()
    times = torch.tensor(factors, dtype=matrix.dtype, device=matrix.device)
    at = list(units)
    with torch.no_grad():
        matrix[at] *= times[:, None]
        layer.write(matrix)
        if vector is not None:
            vector[at] *= times
            layer.shift(vector)
