"""A bias that nothing sees is taken away, where the theorem is known already.

f(b) = f(0) for every b: proved by the survey, not here. Before a batch norm with
running statistics (z + b) - m = z - (m - b), so the running mean gives b up. This needs
no data; `plumbob fix` proves and certifies, and does more.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from plumbob.errors import InputError, did_you_mean
from plumbob.mending.give_up import FUSED, can_go
from plumbob.mending.migrate import migrate
from plumbob.survey.guard import or_as_before
from plumbob.survey.writable import writable

BATCH_NORMS = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]


def drop_null_bias(
    model: nn.Module,
    optimizer: Any = None,
    *,
    parameter: str,
    norm: str | None = None,
    rows: Sequence[int] | None = None,
) -> None:
    """Remove a bias that is proved to be null, in place.

    The layer keeps its name and has `bias = None` as if built with bias=False.

    Why:
        The gradient of a null bias is exactly 0, and what arrives is rounding noise
        that Adam scales up to full steps. Without the parameter nothing wanders, and
        curvature, distances and averages of models lose a meaningless direction.

    Exact when:
        The bias is null in training and inference (a key bias under softmax, a bias
        before a norm that uses the batch's statistics always); or it is null in
        training, the batch norm `norm` reads this map and nothing else, channel by
        channel in the same order with nothing in between that scales, mixes or
        moves them, and keeps running statistics, from which b is then subtracted.

    Args:
        model: what to change.
        optimizer: whoever trains it; it lets the bias go. One that is not given goes on
            holding it, without a gradient.
        parameter: the bias, by its full name.
        norm: path of the batch norm that directly follows, or None where none does.
        rows: the first of the elements that are null and one past the last; None: all.

    Raises:
        InputError: only some rows are null; the bias is shared, frozen, parametrised,
            quantised or distributed; its module cannot do without it; or the norm
            is none that could give it up.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
        >>> x = torch.randn(8, 3)
        >>> before = model(x)
        >>> drop_null_bias(model, parameter="0.bias", norm="1")
        >>> model[0].bias is None, torch.allclose(model(x), before, atol=1e-6)
        (True, True)

    References:
        Ioffe and Szegedy (2015), Batch normalization, section 3.2. Namazifar, Hazarika
        and Hakkani-Tur (2023), Role of bias terms in dot-product attention, section 3.
    """
    path = parameter.rpartition(".")[0]
    owner = _module(model, path, f"parameter '{parameter}'")
    works = can_go(model, parameter)
    if works and getattr(owner, "bias", None) is None:
        return
    bias = writable(model, parameter)
    if rows is not None and tuple(rows) != (0, bias.numel()):
        raise InputError(
            f"expected a bias that is null as a whole, got rows {tuple(rows)} of "
            f"{parameter} [{bias.numel()}]; the rest of a packed bias counts: set "
            "these rows to 0 and leave it"
        )
    if not works:
        above = model.get_submodule(path.rpartition(".")[0]) if path else owner
        kind = type(above if isinstance(above, FUSED) else owner).__name__
        raise InputError(
            f"expected the bias of a linear, convolution or layer norm layer, got "
            f"{parameter} {list(bias.shape)}: {kind} does not work without it; set it "
            "to 0 and leave it"
        )
    after = None if norm is None else _statistics(model, norm, bias)
    held = dict(model.named_parameters())
    with or_as_before(owner), or_as_before(after or owner), torch.no_grad():
        if after is not None and after.running_mean is not None:
            mean = after.running_mean
            mean.copy_(mean.cpu().double() - bias.cpu().double())  # mps has none
        owner.register_parameter("bias", None)
    if optimizer is not None:
        migrate(optimizer, held, model)


def _statistics(model: nn.Module, path: str, bias: nn.Parameter) -> BATCH_NORMS:
    norm = _module(model, path, f"norm '{path}'")
    uses = [n for n, m in model.named_modules(remove_duplicate=False) if m is norm]
    if not isinstance(norm, BATCH_NORMS) or norm.num_features != bias.numel():
        raise InputError(
            f"expected a batch norm of {bias.numel()} channels, got {path}: {norm}; "
            "name the norm that follows the map directly"
        )
    if len(uses) > 1:
        raise InputError(
            f"expected a batch norm that follows one map, got {path}, which is also "
            f"{', '.join(n for n in uses if n != path)}; leave the bias"
        )
    return norm


def _module(model: nn.Module, path: str, what: str) -> nn.Module:
    modules = dict(model.named_modules(remove_duplicate=False))
    if path not in modules:
        raise InputError(
            f"expected the path of a module for {what}, got '{path}', which "
            f"{type(model).__name__} does not have.{did_you_mean(path, modules)}"
        )
    return modules[path]
