"""A decay as Keras states it, as torch states it."""

from typing import Any

import torch
from torch import nn, optim

from plumbob.errors import InputError
from plumbob.survey.optimizer import optimizer_facts


def keras_l2(factor: float, optimizer: Any = optim.SGD) -> float:
    """Return the `weight_decay` that does what Keras' `regularizers.l2(factor)` does.

    Why:
        Keras adds factor * sum(w^2) to the loss, whose gradient is 2 factor w. A torch
        optimiser with coupled decay adds weight_decay * w to the gradient: it needs
        twice the factor. That holds for SGD, Adam, RMSprop and all that treat the sum
        as the gradient. AdamW and its kin subtract lr * weight_decay * w beside the
        step: there no number does the same, since Adam divides the penalty's gradient
        by the root of its second moment.

    Args:
        factor: that of Keras.
        optimizer: a torch optimiser, or its class.

    Raises:
        InputError: its decay is decoupled, or it has none.

    Example:
        >>> keras_l2(0.01)
        0.02
    """
    name = getattr(optimizer, "__name__", type(optimizer).__name__)
    if isinstance(optimizer, type):
        optimizer = optimizer([nn.Parameter(torch.zeros(1, 1))], lr=1.0)
    groups = optimizer.param_groups
    if any("weight_decay" not in group for group in groups):
        raise InputError(
            f"expected an optimiser with weight_decay, got {name}, which has none; add "
            f"{factor:g} * w.square().sum() to the loss"
        )
    if any(g.decoupled for g in optimizer_facts(optimizer, nn.Module()).groups):
        raise InputError(
            f"expected an optimiser that adds decay to the gradient, got {name}, which "
            "subtracts it beside the step, so that no weight_decay does what l2 does; "
            f"add {factor:g} * w.square().sum() to the loss, or take torch.optim.Adam"
        )
    return 2 * factor
