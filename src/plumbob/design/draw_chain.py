"""The maps of a chain are drawn anew, so that a signal passes it in its size."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import isfinite
from typing import Any
from zlib import crc32

import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.guard import or_as_before
from plumbob.survey.layers import Layer
from plumbob.survey.optimizer import each
from plumbob.survey.units import check_finite, layer_of
from plumbob.survey.writable import writable


def draw_chain(
    model: nn.Module,
    optimizer: Any = None,
    *,
    sites: Sequence[Mapping[str, Any]],
    sds: Sequence[float],
    offsets: Sequence[float],
) -> None:
    """Draw W from N(0, sd^2) for each map, and set b to -offset times W's row sums.

    The weight's name and the seed of torch decide the draw, so the same call draws the
    same numbers; the generators themselves are not touched.

    Why:
        With fan_in sd^2 E[phi'(z)^2] = 1 a difference between two inputs neither grows
        nor shrinks from map to map, and neither does the gradient on its way back. An
        activation that is `offset` at z = 0 (sigmoid: 1/2) hands every unit the
        constant offset * sum(w), which the bias takes away again: else z lies off the
        steep part of the curve, and the deeper the further.

    Args:
        model: what to change.
        optimizer: whoever trains it; the momenta of the weights begin at 0.
        sites: the maps, as `plumbob.remedies.layout` writes them down.
        sds: one standard deviation for each.
        offsets: the value at 0 of the activation that each map reads, 0 if none.

    Raises:
        InputError: a map is not the model's, or is laid out in another way; a number
            is not finite or does not fit the weight's dtype; or a parameter is
            shared, frozen, computed, quantised or distributed.

    Example:
        >>> from plumbob.remedies import layout
        >>> from plumbob.survey.trace import module_sites
        >>> model = nn.Sequential(nn.Linear(100, 50), nn.Sigmoid(), nn.Linear(50, 2))
        >>> sites = [layout(site) for site in module_sites(model)]
        >>> draw_chain(model, sites=sites, sds=(0.1, 0.5), offsets=(0.0, 0.5))
        >>> round(model[2].weight.std().item(), 1)
        0.5
        >>> torch.allclose(model[2].bias, -0.5 * model[2].weight.sum(1))
        True

    References:
        S. Schoenholz, J. Gilmer, S. Ganguli and J. Sohl-Dickstein (2017), Deep
        information propagation, section 3.
    """
    layers = [layer_of(model, site) for site in sites]
    for number in (*sds, *offsets):
        if not isfinite(number):
            raise InputError(f"expected finite numbers, got {number}; draw by hand")
    for layer in layers:
        if layer.site.bias:
            writable(model, layer.site.bias)
    with ExitStack() as stack, torch.no_grad():
        for layer in layers:
            stack.enter_context(or_as_before(layer.module))
        for layer, sd, offset in zip(layers, sds, offsets, strict=True):
            _draw(layer, sd, offset)
            for one in each(optimizer) if optimizer is not None else ():
                _forget(one, layer)


def _draw(layer: Layer, sd: float, offset: float) -> None:
    name = crc32(layer.site.weight.encode())
    generator = torch.Generator().manual_seed(torch.initial_seed() ^ name)
    matrix = layer.matrix()
    drawn = torch.randn(matrix.shape, generator=generator, dtype=torch.float64) * sd
    layer.write(check_finite(drawn, matrix, layer.site.weight).to(matrix.device))
    if (vector := layer.vector()) is not None:
        rows = -offset * drawn.sum(1)
        layer.shift(check_finite(rows, vector, layer.site.name).to(vector.device))


def _forget(optimizer: Any, layer: Layer) -> None:
    """Set to 0 what an optimiser keeps for each number of the weight."""
    state: Mapping[str, Any] = optimizer.state.get(layer.weight, {})
    for kept in state.values():
        if isinstance(kept, torch.Tensor) and kept.shape == layer.weight.shape:
            held = replace(layer, weight=nn.Parameter(kept, requires_grad=False))
            held.write(torch.zeros_like(held.matrix()))
