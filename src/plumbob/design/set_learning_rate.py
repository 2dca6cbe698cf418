"""Give parameter groups of an optimiser another learning rate."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from plumbob.errors import InputError, did_you_mean
from plumbob.survey.optimizer import each


def set_learning_rate(
    model: nn.Module,
    optimizer: Any,
    *,
    parameters: Sequence[str],
    rates: Sequence[float],
) -> None:
    """Set the learning rate, in place, of the groups that hold named parameters.

    The rate that a group begins with (`initial_lr`, where a scheduler wrote one) is
    scaled alike; a scheduler remembers it from when it was made: make it afterwards.

    Args:
        model: whose names these are.
        optimizer: a torch optimiser, or a list, tuple or dict of them.
        parameters: one name for each group, as in `model.named_parameters()`.
        rates: the learning rates of their groups.

    Raises:
        InputError: a name is no parameter of the model, or none of the optimiser's;
            or there is not one rate above 0 for each. Nothing is changed then.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(layer.parameters(), lr=8.0)
        >>> set_learning_rate(layer, sgd, parameters=["weight"], rates=[0.5])
        >>> sgd.param_groups[0]["lr"]
        0.5
    """
    if len(rates) != len(parameters) or not all(rate > 0 for rate in rates):
        raise InputError(
            f"expected one learning rate above 0 for each of {len(parameters)} "
            f"parameters, got {list(rates)}"
        )
    known = dict(model.named_parameters(remove_duplicate=False))
    groups = {
        id(p): group
        for one in each(optimizer)
        for group in one.param_groups
        for p in group["params"]
    }
    for name in parameters:
        if name not in known:
            raise InputError(
                f"expected names of parameters of {type(model).__name__}, got "
                f"'{name}'.{did_you_mean(name, known)}"
            )
        if id(known[name]) not in groups:
            raise InputError(
                f"expected parameters that the optimiser holds, got '{name}', which is "
                "in none of its groups; add it to one first"
            )
    for name, rate in zip(parameters, rates, strict=True):
        group = groups[id(known[name])]
        if "initial_lr" in group and float(group["lr"]):
            group["initial_lr"] = group["initial_lr"] * rate / float(group["lr"])
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
