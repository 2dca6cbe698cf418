"""Whether samples are windows of one another, as pieces cut from one series are."""

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

_MOST = 1 << 25  # numbers that are compared along an axis


def overlap(given: Tensor) -> bool:
    """Say whether samples share half of themselves or more, shifted along an axis.

    A tenth of them is enough, where not as many do whose places were shuffled: small
    whole numbers agree by chance.
    """
    values = given.detach().double().cpu().numpy()
    for axis in range(1, values.ndim):
        table = np.moveaxis(values, axis, 1)
        mixed = table[:, np.random.default_rng(0).permutation(table.shape[1])]
        share = _share(table)
        if share > 0.1 and share > 2 * _share(mixed):
            return True
    return False


def _share(table: Shaped[np.ndarray, "samples places *rest"]) -> float:
    """Return the share of samples whose first half is found later in another."""
    places, size = table.shape[1], table[0].size
    half = (places + 1) // 2
    shifts = range(1, places - half + 1)
    if not shifts:
        return 0.0
    table = table[: max(2, _MOST // (len(shifts) * size))]
    firsts = [part for part in table[:, :half] if part.min() < part.max()]
    later = {hash(row[s : s + half].tobytes()) for row in table for s in shifts}
    return sum(hash(part.tobytes()) in later for part in firsts) / len(table)
