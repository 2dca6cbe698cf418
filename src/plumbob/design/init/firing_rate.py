"""Every unit before a ReLU or its kin fires on the same share of the data."""

from collections.abc import Iterable
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
from torch import nn

from plumbob.columns import Done
from plumbob.errors import InputError, did_you_mean
from plumbob.survey.in_turn import Shift, set_in_turn
from plumbob.types import Reading, Site

# off below 0, or nearly so
FIRING = {
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu"),
    *("gelu", "silu", "mish", "hardswish", "softplus"),
}
KEPT = 10_000  # rows of z: a rate of p is met to sqrt(p (1 - p) / KEPT), 0.005 at most


def firing_rate_(
    model: nn.Module,
    data: Any,
    *,
    rate: float = 0.5,
    by: str = "quantile",
    sites: Iterable[str] | str | None = None,
    targets: Any = None,
    limit: int | None = None,
) -> Done:
    """Set b so that each unit fires (z > 0) on a given share of the data, in place.

    Why:
        The bias of a unit before a ReLU sets how likely it is on. Drawn at random
        that differs from unit to unit, the more the deeper: some never fire and learn
        nothing, some always and bend nothing, though the mean over the layer looks
        right. A rate of 0.5 tells the inputs apart most (1 bit a unit); 0.1 to 0.2
        makes sparse codes. A lower rate also lowers the scale of what follows:
        E[relu(z)^2] / var(z) is 0.5 at rate 0.5 and 0.106 at 0.2.

    The rate is counted over all inputs and, in convolutions and sequences, places.
    Layers are set in the order of execution, each on what those before it, already
    set, give. Where a norm lies between a map and its activation, the norm's bias is
    set.

    Args:
        model: run in the mode that it is in; in place.
        data: as the training loop feeds it.
        rate: P(z > 0), between 0 and 1.
        by: "quantile" (b = minus that quantile of w.x on the data) or "normal"
            (b = sd Phi^-1(rate) - w.mu: right where z is normal, which needs fewer
            data).
        sites: names or globs; by default every map before an activation that is off
            below 0, but the outputs.
        targets: of a single batch.
        limit: the largest number of batches taken from a loader.

    Returns:
        What was done at each site, or why it was left.

    Raises:
        InputError: a rate or name cannot be used, or there are too few data.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> _ = model[0].weight.data.fill_(0.1), model[0].bias.data.fill_(-2.0)
        >>> print(firing_rate_(model, torch.linspace(0, 1, 800).view(100, 8), rate=0.2))
        site  what
        0     b moved by up to 1.36: fires on 0.2 to 0.2 of the values
        2     left: the output: its bias has schemes of its own
    """
    if not 0 < rate < 1:
        raise InputError(f"expected a rate between 0 and 1, got {rate}")
    ways = {"quantile": _quantile, "normal": _normal}
    if by not in ways:
        raise InputError(
            f"expected by= of quantile, normal, got {by!r}.{did_you_mean(by, ways)}"
        )
    return set_in_turn(
        model,
        data,
        targets=targets,
        limit=limit,
        sites=sites,
        why_not=_why_not,
        shift=partial(ways[by], rate),
        say=_say,
        keep=KEPT if by == "quantile" else 0,
    )


def _why_not(site: Site) -> str | None:
    if site.kind != "norm" and site.norm:
        return f"{site.norm} follows, and its bias decides"
    if site.activation is None:
        return "no activation follows"
    if site.activation not in FIRING:
        return f"{site.activation} follows, which is never off"
    return None


def _quantile(rate: float, site: Site, reading: Reading) -> Shift:
    """Return minus the middle between the values that shall fire and those not.

    Raises:
        InputError: there are too few values.
    """
    z = reading.sample
    fire = 0 if z is None else round(rate * len(z))
    if z is None or not 0 < fire < len(z):
        raise InputError(
            f"expected at least {1 / min(rate, 1 - rate):.0f} values of {site.name} "
            f"for a rate of {rate:g}, got {0 if z is None else len(z)}; pass more data"
        )
    cut = len(z) - fire
    z = np.partition(z, (cut - 1, cut), axis=0)
    return -(z[cut - 1] + z[cut]) / 2


def _normal(rate: float, site: Site, reading: Reading) -> Shift:
    assert reading.z is not None
    return reading.z.sd * NormalDist().inv_cdf(rate) - reading.z.mean


def _say(reading: Reading) -> str:
    assert reading.z is not None
    rates = reading.z.positive / reading.z.count
    return f"fires on {rates.min():.3g} to {rates.max():.3g} of the values"
