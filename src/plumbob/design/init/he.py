"""He's (Kaiming's) scheme with the gain of whatever activation follows."""

from functools import cache
from math import sqrt

import torch

from plumbob.survey.layers import Layer
from plumbob.survey.normal import ACTIVATIONS, Phi

LEAKY = {"leaky_relu", "prelu", "rrelu"}


@cache
def _moments(activation: str) -> tuple[float, float, float]:
    return Phi(activation).moments(1.0)


def gain(activation: str, slope: float = 0.01) -> float:
    """Return 1 / sqrt(E[phi(z)^2]) for z ~ N(0, 1): what keeps the second moment.

    `slope` is that of a leaky ReLU below 0. It is 1 where the activation is not known
    to act on each number alone.

    Example:
        >>> [round(gain(name), 4) for name in ("relu", "tanh", "selu", "gelu")]
        [1.4142, 1.5925, 1.0, 1.5335]
        >>> round(gain("leaky_relu", 0.2), 4)
        1.3868
    """
    if activation in LEAKY:
        return sqrt(2 / (1 + slope**2))
    return 1 / sqrt(_moments(activation)[0]) if activation in ACTIVATIONS else 1.0


def drift(activation: str) -> float:
    """Return the slope of the map of second moments where `gain` holds it at 1.

    1 for ReLU. Below 1 the moment comes back to 1 by itself (tanh, SELU); above 1 a
    deviation grows from layer to layer (GELU, SiLU), so no gain serves a deep stack.

    Example:
        >>> [round(drift(name), 2) for name in ("relu", "tanh", "gelu", "silu")]
        [1.0, 0.46, 1.14, 1.17]
    """
    if activation not in ACTIVATIONS:
        return 1.0
    square, _, steep = _moments(activation)
    return steep / square


def he(
    layer: Layer,
    *,
    generator: torch.Generator,
    activation: str | None = None,
    slope: float = 0.01,
    scale: float = 1.0,
) -> str:
    """Draw W from N(0, (scale * gain)^2 / fan_in).

    Why: E[x^2] = gain^-2 E[z^2] behind the activation, so that this W keeps the
    second moment of x from layer to layer. (It is a second moment: x behind a ReLU is
    not centred, and Var z is 2.934 Var x in every layer but the first.)

    Args:
        layer: what is written.
        generator: the source of chance.
        activation: what follows the map; the site's own by default, ReLU where that
            is not known; "linear" for none.
        slope: of a leaky ReLU, below 0.
        scale: a further factor of the standard deviation.

    Returns:
        What was done, in one sentence.

    References:
        K. He, X. Zhang, S. Ren and J. Sun (2015), Delving deep into rectifiers,
        section 2.2.
    """
    name = activation or layer.site.activation or "relu"
    factor = gain(name, slope)
    sd = scale * factor / sqrt(layer.fans()[0])
    W = torch.randn(layer.matrix().shape, generator=generator, dtype=torch.float32)
    layer.write(W * sd)
    times = f" times {scale:.4g}" if scale != 1 else ""
    return f"He: N(0, {sd:.4g}^2), gain {factor:.4g}{times}"
