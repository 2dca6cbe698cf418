"""Every unit's net input gets mean 0 on the data."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import nn

from plumbob.columns import Done
from plumbob.survey.in_turn import Shift, set_in_turn
from plumbob.types import Reading, Site

CENTRES = {"batch-norm", "instance-norm"}  # they subtract each unit's mean


def centre_bias_(
    model: nn.Module,
    data: Any,
    *,
    sites: Iterable[str] | str | None = None,
    targets: Any = None,
    limit: int | None = None,
) -> Done:
    """Set b = -w.mu, so that each unit's z has mean 0 on the data, in place.

    Why:
        Where the mean mu of a layer's input is not 0 (behind every ReLU and sigmoid),
        w.mu pushes each unit to one side: z of a unit then keeps its sign, or lies on
        a tanh's flat end, before anything is learned. With b = -w.mu every unit starts
        in the middle of its data: at a ReLU's kink, on a tanh's steepest part.

    Layers are set in the order of execution, each on what those before it, already
    set, give. Set W first: every change of W moves w.mu.

    Args:
        model: run in the mode that it is in; in place.
        data: as the training loop feeds it.
        sites: names or globs; by default all maps with a bias but the outputs, and
            those before a batch norm, which subtracts the mean itself.
        targets: of a single batch.
        limit: the largest number of batches taken from a loader.

    Returns:
        What was done at each site, or why it was left.

    Raises:
        InputError: a name fits no site, or the data cannot be used.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> x = 5 + torch.randn(64, 2)
        >>> done = centre_bias_(model, x)
        >>> torch.allclose(model[0](x).mean(0), torch.zeros(3), atol=1e-5)
        True
    """
    return set_in_turn(
        model,
        data,
        targets=targets,
        limit=limit,
        sites=sites,
        why_not=_why_not,
        shift=_shift,
        say=_say,
    )


def _why_not(site: Site) -> str | None:
    if site.kind == "norm":
        return "a norm's shift is not of W x"
    if site.norm in CENTRES:
        return f"{site.norm} follows and subtracts the mean"
    return None


def _shift(site: Site, reading: Reading) -> Shift:
    assert reading.z is not None
    return -reading.z.mean


def _say(reading: Reading) -> str:
    assert reading.z is not None
    return f"mean z at most {np.abs(reading.z.mean).max():.2g}"
