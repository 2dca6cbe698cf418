"""A norm forgets the running mean and variance that it has measured."""

import torch
from torch import nn

from plumbob.errors import InputError, did_you_mean
from plumbob.survey.guard import or_as_before


def reset_statistics(model: nn.Module, *, norm: str) -> None:
    """Set a norm's running mean to 0, its variance to 1 and its count to 0, in place.

    Why:
        A running statistic that holds NaN keeps it: (1 - m) NaN + m x is NaN. Training
        does not read it; inference does, so it must be measured again, by training
        steps or by passes over data in training mode.

    Args:
        model: what to change.
        norm: path of the norm.

    Raises:
        InputError: there is no such module, it keeps no running statistics, or all of
            its parameters are frozen: nothing would measure them again.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(2))
        >>> _ = model[0].running_mean.fill_(float("nan"))
        >>> reset_statistics(model, norm="0")
        >>> model[0].running_mean.tolist()
        [0.0, 0.0]
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if norm not in modules:
        raise InputError(
            f"expected the path of a norm of {type(model).__name__}, got "
            f"'{norm}'.{did_you_mean(norm, modules)}"
        )
    kept = dict(modules[norm].named_buffers(recurse=False))
    if "running_mean" not in kept or "running_var" not in kept:
        raise InputError(
            f"expected a norm with a running mean and variance, got '{norm}': "
            f"{type(modules[norm]).__name__}; there is nothing to set back"
        )
    own = list(modules[norm].parameters(recurse=False))
    if own and not any(parameter.requires_grad for parameter in own):
        raise InputError(
            f"expected a norm that is trained, got '{norm}', which is frozen "
            "(requires_grad=False), so that 0 and 1 would stay; load its statistics "
            "from where they were measured"
        )
    with or_as_before(modules[norm]), torch.no_grad():
        kept["running_mean"].zero_()
        kept["running_var"].fill_(1)
        if "num_batches_tracked" in kept:
            kept["num_batches_tracked"].zero_()
