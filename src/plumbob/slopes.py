"""How much of a signal or gradient an activation lets through: E[phi'(z)^2]."""

from collections.abc import Callable
from math import erf, sqrt

import numpy as np
from jaxtyping import Float

from plumbob.types import Moments

Values = Float[np.ndarray, "..."]
NODES = np.linspace(-6, 6, 241)  # even, since some slopes jump
WEIGHTS = np.exp(-(NODES**2) / 2)
ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805  # of selu
STEEP: dict[str, Callable[[Values], Values]] = {
    "relu": lambda z: 1.0 * (z > 0),
    "leaky_relu": lambda z: np.where(z > 0, 1, 0.01),
    "elu": lambda z: np.where(z > 0, 1, np.exp(np.minimum(z, 0))),
    "selu": lambda z: SCALE * np.where(z > 0, 1, ALPHA * np.exp(np.minimum(z, 0))),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "sigmoid": lambda z: (1 - np.tanh(z / 2) ** 2) / 4,
    "softplus": lambda z: (1 + np.tanh(z / 2)) / 2,
    "softsign": lambda z: 1 / (1 + np.abs(z)) ** 2,
    "gelu": lambda z: _phi(z) + z * np.exp(-(z**2) / 2) / sqrt(2 * np.pi),
    "silu": lambda z: (1 + np.tanh(z / 2)) / 2 * (1 + z * (1 - np.tanh(z / 2)) / 2),
}
AT_ZERO = {"sigmoid": 0.5, "softplus": float(np.log(2))}  # phi(0), where it is not 0


def slope(activation: str | None, z: Moments | None = None) -> float:
    """Return the root of E[phi'(z)^2], the mean over units; 1 for one not in STEEP.

    Each unit's z is taken as normal with its own mean and deviation, N(0, 1) without
    moments; at a kink the share of z > 0 as it was counted is exact.

    Example:
        >>> [round(slope(name), 3) for name in ("relu", "tanh", "sigmoid", None)]
        [0.707, 0.681, 0.212, 1.0]
    """
    if activation not in STEEP:
        return 1.0
    steep = STEEP[activation]
    if activation in {"relu", "leaky_relu"}:
        share = 0.5
        if z is not None:
            share = float(z.positive.sum() / max(1, z.count.sum()))
        ends = steep(np.array([-1.0, 1.0])) ** 2
        return float(np.sqrt(ends @ [1 - share, share]))
    points = NODES if z is None else z.mean[:, None] + z.sd[:, None] * NODES
    with np.errstate(over="ignore"):
        return float(np.sqrt((steep(points) ** 2 @ WEIGHTS).mean() / WEIGHTS.sum()))


def _phi(z: Values) -> Values:
    return 0.5 + 0.5 * np.vectorize(erf)(z / sqrt(2))
