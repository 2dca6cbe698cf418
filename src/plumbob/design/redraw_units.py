"""Units are drawn anew: copies of one another, worn away, or cut off by zeros."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import sqrt
from typing import Any
from zlib import crc32

import torch
from torch import nn

from plumbob.design.init import gain
from plumbob.errors import InputError
from plumbob.survey.guard import or_as_before
from plumbob.survey.layers import Layer
from plumbob.survey.optimizer import each
from plumbob.survey.units import check_units, layer_of
from plumbob.types import Site


def redraw_units(
    model: nn.Module,
    optimizer: Any = None,
    *,
    site: Mapping[str, Any],
    rows: Sequence[int] = (),
    sd: float | None = None,
    columns: Sequence[int] = (),
    readers: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Draw the weights of some units from a normal distribution, in place.

    The weight's name and the seed of torch decide what every unit would be drawn as,
    so the same call draws the same numbers, and calls for different units different
    ones; the generators themselves are not touched. Biases stay.

    Why:
        Equal units stay equal for ever under gradient steps; chance parts them. Units
        that decay has worn away, or that zeros cut off, take part again once what they
        read and what reads them have the size of their neighbours'.

    Args:
        model: what to change.
        optimizer: whoever trains it; the momenta of what is drawn begin at 0.
        site: the map, as `plumbob.remedies.layout` writes it down.
        rows: units whose own weights are drawn.
        sd: standard deviation of these weights; None: He's for the activation that
            follows.
        columns: units that are to be read anew.
        readers: the maps that read them, unit by unit, as `site`. Each column gets the
            root mean square of that map's other columns.

    Raises:
        InputError: the map is not the model's, or is laid out in another way; a unit
            is not there or named twice; a reader has not so many inputs; or a
            weight is shared, frozen, computed, quantised or distributed.

    Example:
        >>> from plumbob.remedies import layout
        >>> from plumbob.survey.trace import module_sites
        >>> model = nn.Sequential(nn.Linear(100, 50), nn.ReLU())
        >>> _ = nn.init.constant_(model[0].weight, 0.1)
        >>> redraw_units(model, site=layout(module_sites(model)[0]), rows=range(50))
        >>> round(model[0].weight.std().item(), 2)
        0.14

    References:
        K. He, X. Zhang, S. Ren and J. Sun (2015), Delving deep into rectifiers,
        section 2.2.
    """
    layer, *reading = (layer_of(model, one) for one in (site, *readers))
    for units in (rows, columns):
        check_units(units, layer.site.out, layer.site.name)
    for reader in reading:
        _check_reader(reader.site, layer.site)
    with ExitStack() as stack, torch.no_grad():
        for one in (layer, *reading):
            stack.enter_context(or_as_before(one.module))
        if rows:
            _draw_rows(layer, list(rows), sd)
        for reader in reading if columns else ():
            _draw_columns(reader, layer.site.out, list(columns))
        for one in each(optimizer) if optimizer is not None else ():
            for state in _states(one, layer) if rows else ():
                matrix = state.matrix()
                matrix[list(rows)] = 0
                state.write(matrix)
            for reader in reading if columns else ():
                for state in _states(one, reader):
                    _columns(state, layer.site.out, list(columns), 0.0)


def _check_reader(reader: Site, read: Site) -> None:
    """Refuse a map whose columns cannot be those of the units.

    Raises:
        InputError: the sizes do not fit, or only some columns read each unit.
    """
    if reader.fan_in % read.out or reader.groups > 1:
        raise InputError(
            f"expected readers with a column for each of the {read.out} units of "
            f"{read.name}, got {reader.name} with {reader.fan_in} columns in "
            f"{reader.groups} groups; name the maps that read it"
        )


def _draw_rows(layer: Layer, rows: list[int], sd: float | None) -> None:
    if sd is None:
        sd = gain(layer.site.activation or "relu") / sqrt(layer.fans()[0])
    matrix = layer.matrix()
    matrix[rows] = (_normal(layer, matrix) * sd)[rows]
    layer.write(matrix)


def _draw_columns(reader: Layer, units: int, columns: list[int]) -> None:
    by_unit = reader.matrix().reshape(reader.site.out, units, -1)
    others = [unit for unit in range(units) if unit not in set(columns)]
    size = by_unit[:, others].double().square().mean().sqrt() if others else 0.0
    _columns(reader, units, columns, float(size))


def _columns(reader: Layer, units: int, columns: list[int], sd: float) -> None:
    by_unit = reader.matrix().reshape(reader.site.out, units, -1)
    drawn = _normal(reader, by_unit) * sd
    by_unit[:, columns] = drawn[:, columns]
    reader.write(by_unit.reshape(reader.site.out, -1))


def _normal(layer: Layer, like: torch.Tensor) -> torch.Tensor:
    """Draw from N(0, 1) as the weight's name and torch's seed decide."""
    name = crc32(layer.site.weight.encode())
    generator = torch.Generator().manual_seed(torch.initial_seed() ^ name)
    return torch.randn(like.shape, generator=generator).to(like)


def _states(optimizer: Any, layer: Layer) -> Iterator[Layer]:
    """Yield what an optimiser keeps for each number of a weight, as a layer."""
    state: Mapping[str, Any] = optimizer.state.get(layer.weight, {})
    for kept in state.values():
        if isinstance(kept, torch.Tensor) and kept.shape == layer.weight.shape:
            yield replace(layer, weight=nn.Parameter(kept, requires_grad=False))
