"""The states of taps, added up over the ranks of a training."""

import torch
from jaxtyping import Float
from torch import Tensor, distributed

# The rows of a tap's state: a number per unit each. What is joined has one row more,
# of values that came from units that were not finite on their rank.
SHIFT, COUNT, SUM, SQUARES, POSITIVE, HIGH, LOW, BEYOND = range(8)
ROWS = 8
SPOILT = 8


def joined(
    packed: Float[Tensor, "rows units"], samples: int
) -> Float[Tensor, "rows+1 units+1"]:
    """Return the state of all ranks together, and in a last column their samples.

    Every rank must come here, with as many units: two collectives, one of sums and
    one of extremes, whose size does not grow with the number of ranks; on CUDA they
    join the queue of the device, and nothing waits. Sums are moved to a shift that
    all have in common, 0, in float64, which keeps 6 digits of a variance up to means
    of 10^5 standard deviations. A unit that is not finite on a rank is left out there.
    """
    t = packed.double()
    count, shift, total, squares = t[COUNT], t[SHIFT], t[SUM], t[SQUARES]
    fine = squares.isfinite() & (count > 0)
    added = torch.stack([
        count,
        total + count * shift,
        squares + shift * (2 * total + count * shift),
        t[POSITIVE],
        t[BEYOND],
    ]).masked_fill_(~fine, 0.0)
    added = torch.cat([added, count.masked_fill(fine, 0.0)[None]])
    added = torch.nn.functional.pad(added, (0, 1), value=float(samples))
    extreme = torch.stack([t[HIGH], -t[LOW]]).masked_fill_(~fine, -torch.inf)
    extreme = torch.nn.functional.pad(extreme, (0, 1))
    distributed.all_reduce(added)
    distributed.all_reduce(extreme, op=distributed.ReduceOp.MAX)
    n, total, squares, positive, beyond, spoilt = added.unbind()
    high, low = extreme[0], -extreme[1]
    shift = torch.zeros_like(n)
    return torch.stack([shift, n, total, squares, positive, high, low, beyond, spoilt])
