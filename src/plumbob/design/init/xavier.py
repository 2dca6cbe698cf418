"""Xavier's (Glorot's) scheme: the mean of what forward and backward pass ask for."""

from math import sqrt

import torch

from plumbob.survey.layers import Layer


def xavier(
    layer: Layer, *, generator: torch.Generator, gain: float = 1.0, parts: int = 1
) -> str:
    """Draw W from U(-a, a) with a^2 / 3 = gain^2 * 2 / (fan_in + fan_out).

    Why: Var z = fan_in Var w E[x^2] and, backward, fan_out Var w; where the two fans
    differ, no variance keeps both, and their mean is the compromise.

    Args:
        layer: what is written.
        generator: the source of chance.
        gain: factor of the standard deviation.
        parts: how many maps of equal size lie above each other in W (query, key and
            value in one tensor, the gates of a recurrent layer); fan_out is a part's.

    Returns:
        What was done, in one sentence.

    References:
        X. Glorot and Y. Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks, section 4.2.1.
    """
    fan_in, fan_out = layer.fans()
    sd = gain * sqrt(2 / (fan_in + fan_out / parts))
    edge = sd * sqrt(3)
    W = torch.rand(layer.matrix().shape, generator=generator, dtype=torch.float32)
    layer.write((2 * W - 1) * edge)
    each = f", each of {parts} parts" if parts > 1 else ""
    return f"Xavier: U(-{edge:.4g}, {edge:.4g}), sd {sd:.4g}{each}"
