"""Units that an act names: found where they lie, or refused before anything changes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plumbob.errors import InputError
from plumbob.survey.layers import Layer, layers
from plumbob.survey.writable import writable
from plumbob.types import Site


def layer_of(model: nn.Module, layout: Mapping[str, Any]) -> Layer:
    """Return the layer that `plumbob.remedies.layout` has written down.

    Raises:
        InputError: it is not the model's, it is laid out in another way, or its weight
            may not be written to.
    """
    site = Site(**layout)
    writable(model, site.weight)
    found, unseen = layers(model, [site])
    if site.name not in found:
        why = unseen.get(site.name, f"a {site.kind} has no rows")
        raise InputError(f"expected a map with units to change, got {site.name}: {why}")
    return found[site.name]


def check_units(
    units: Sequence[int], count: int, where: str, numbers: Collection[float] = ()
) -> None:
    """Refuse units that are not there or named twice, and numbers that do not fit.

    Raises:
        InputError: such are given.
    """
    there = all(0 <= unit < count for unit in units)
    paired = len(numbers) in {0, len(units)} or not units
    if not there or not paired or len(set(units)) < len(units):
        raise InputError(
            f"expected different units from 0 to {count - 1} of {where}"
            + (" and a number for each" if numbers else "")
            + f", got {list(units)}"
            + (f" and {len(numbers)} numbers" if numbers else "")
            + "; check the model that is to be mended"
        )


def change_bias(
    model: nn.Module,
    parameter: str,
    units: Sequence[int],
    numbers: Sequence[float],
    change: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Write `change(what is there, numbers)`, in float64, to units of a bias.

    Raises:
        InputError: it may not be written to, the units and numbers do not fit, or what
            would be written is not finite.
    """
    bias = writable(model, parameter)
    where = f"{parameter} {list(bias.shape)}"
    check_units(units, bias.numel(), where, numbers)
    at = torch.tensor(list(units), dtype=torch.long)
    old = bias.detach().cpu().double().view(-1)[at]
    new = change(old, torch.tensor(list(numbers), dtype=torch.float64))
    held = check_finite(new, bias, where).to(bias.device)
    bias.detach().view(-1)[at.to(bias.device)] = held


def check_finite(
    new: Float[Tensor, "..."], like: Tensor, where: str
) -> Float[Tensor, "..."]:
    """Return values in the dtype of a parameter.

    Raises:
        InputError: not all are finite there.
    """
    held = new.to(like.dtype)
    if not bool(held.isfinite().all()):
        worst = new.flatten()[~held.flatten().isfinite()][:3].tolist()
        raise InputError(
            f"expected values that {like.dtype} holds for {where}, got {worst}; mend "
            "what makes them first"
        )
    return held
