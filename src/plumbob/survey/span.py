"""Whether inputs hold a constant, so that weights can do what a bias does."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from plumbob.survey.batches import Batch
from plumbob.types import Site

MOST = 512  # columns; what is solved below grows with their cube
EXACT = 1e-5  # rounding of float32 inputs that sum to one


def ones(batch: Batch, sites: Iterable[Site]) -> dict[str, Float[Any, " in"]]:
    """Return a with x.a = 1 for every row of the batch, for maps of the raw input.

    Asked of at least twice as many rows as columns, for fewer can always be met.
    """
    given = [
        x.detach().reshape(-1, x.shape[-1])
        for x in (*batch.args, *batch.kwargs.values())
        if isinstance(x, torch.Tensor) and x.is_floating_point() and x.ndim > 1
        if x.layout is torch.strided
    ]
    found: dict[str, Float[Any, " in"]] = {}
    for site in sites:
        fits = [x for x in given if x.shape[1] == site.fan_in]
        if not (site.reads_input and site.kind == "linear" and len(fits) == 1):
            continue
        x = fits[0]
        if x.is_meta or site.fan_in > MOST or len(x) < 2 * (site.fan_in + 1):
            continue
        rows = x.double().cpu().numpy()
        if not np.isfinite(rows).all():
            continue
        some = rows[: 4 * (site.fan_in + 1)]
        a = np.linalg.lstsq(some, np.ones(len(some)), rcond=1e-9)[0]
        if np.abs(rows @ a - 1).max() < EXACT:
            found[site.name] = a
    return found
