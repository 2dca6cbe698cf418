"""Zero where a residual branch or the network ends."""

import torch
from torch import nn

from plumbob.survey.layers import Layer


def zero_last(layer: Layer, *, generator: torch.Generator | None = None) -> str:
    """Set W to 0.

    Why: right at the end of a residual branch, which then starts as the identity, and
    at the output, which then starts at its bias. W itself has a gradient from the
    first step, what lies before it from the second. Wrong anywhere else: units whose
    weights are alike on both sides stay alike.

    Args:
        layer: what is written.
        generator: not needed; as all schemes have it.

    Returns:
        What was done, in one sentence.

    References:
        H. Zhang, Y. Dauphin and T. Ma (2019), Fixup initialization, section 3.
    """
    layer.write(torch.zeros_like(layer.matrix()))
    return "zero"


def zero_scale(scale: nn.Parameter) -> str:
    """Set a norm's scale to 0: that of the norm which ends a residual branch.

    Why: behind a norm the weights' own scale does not count, so the norm's must be 0.

    References:
        P. Goyal et al. (2017), Accurate, large minibatch SGD, section 5.1.
    """
    scale.detach().zero_()
    return "zero"
