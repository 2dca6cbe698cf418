"""The bias with which an output starts at the prior of its targets."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.design.optimum import BEFORE, OnScores, OptimalBias, known, optimal_bias
from plumbob.errors import InputError
from plumbob.survey.graph import inner
from plumbob.survey.heads import find_head, net_inputs, run, units_last
from plumbob.survey.links import Linked


@torch.no_grad()
def output_bias_(
    head: nn.Module | str,
    y: Any = None,
    *,
    loss: Callable[..., Any],
    model: nn.Module | None = None,
    data: Any = None,
    features: Tensor | None = None,
    weight: Any = None,
    offset: float | Tensor = 0.0,
    limit: int | None = None,
) -> OptimalBias:
    """Write the best bias of an output map for its targets, in place.

    Exact where the head's weights are zero. Where they are not, and `features` or
    `model` and `data` are given, the bias is the one that is best beside the scores
    that the weights give: at a rate of 1 % and scores of deviation 1 it is -5.08, not
    -4.60. Without them it is the formula's, and the note says so. With `model` and
    `data` a function between head and output (sigmoid, log_softmax, exp, ...) is
    recognised by its values.

    Args:
        head: a linear map or a convolution, also transposed, or its path in `model`.
        y: the targets, see `optimal_bias`; by default those that `data` hold.
        loss: as the training loop calls it.
        model: what holds the head; with `data`, run to see what the head reads.
        data: what the training loop feeds: one batch, or a loader of them.
        features: what the head reads, for the samples of `y`.
        weight: of the samples, see `optimal_bias`.
        offset: added to the bias, see `optimal_bias`.
        limit: the largest number of batches taken from a loader; by default 32, or
            all where `y` is given.

    Returns:
        The bias with the terms that it is made of.

    Raises:
        InputError: the head has no bias of its own or is frozen, the shapes do not
            fit, or the output is no known function of the head.

    Example:
        >>> head, y = nn.Linear(3, 1), torch.tensor([1.0] + 99 * [0.0])
        >>> _ = nn.init.zeros_(head.weight)
        >>> _ = output_bias_(head, y, loss=nn.BCEWithLogitsLoss())
        >>> round(head.bias.item(), 3)
        -4.595
    """
    model = inner(model)
    layer = find_head(head, model)
    bias = layer.bias
    z = link = None
    if data is not None and model is None:
        raise InputError("expected model= beside data=, got none; or pass features=")
    if data is not None and model is not None and features is None:
        seen = run(layer, model, data, targets=y, loss=loss, limit=limit)
        features, y, link = seen
    if y is None:
        raise InputError(
            "expected targets, got none; pass y, or model= and data= that hold them"
        )
    if features is not None:
        z = net_inputs(layer, features)
        last = units_last(layer)
        if _takes_scores(loss, link):
            z, y, weight = _rows(z, y, weight) if last else (z, y, weight)
        else:
            loss = _After(loss, link, last=last, each=weight is not None)
            z = z.movedim(-1, 1) if last else z
    found = optimal_bias(
        loss, y, units=bias.numel(), weight=weight, offset=offset, scores=z
    )
    if z is None and bool((layer.weight != 0).any()):
        note = "; exact only at zero head weights: pass features="
        found = replace(found, note=found.note + note)
    if not bool(found.bias.to(bias.dtype).isfinite().all()):
        raise InputError(
            f"expected a bias that {bias.dtype} can hold, got {found.bias.tolist()}; "
            "scale the targets"
        )
    bias.copy_(found.bias)
    return found


def _takes_scores(loss: Any, link: Linked | None) -> bool:
    """Say whether this is a loss of torch's on what the head gives.

    Raises:
        InputError: it is one of log-probabilities, which the model does not give.
    """
    if not known(loss):
        return False
    needed = BEFORE.get(type(loss), ("identity",))[0]
    if needed != "identity" and link is not None and link.link != needed:
        raise InputError(
            f"expected an output after {needed}, as {type(loss).__name__} reads, got "
            f"{link.link} of the head; add {needed} or take a loss on scores"
        )
    return link is None or link.link == needed


def _rows(z: Tensor, y: Any, weight: Any) -> tuple[Tensor, Any, Any]:
    """Lay z (N, ..., units) out in rows, and targets and weights beside them.

    Raises:
        InputError: there is no target for each row.
    """
    if z.ndim == 2:
        return z, y, weight
    y = torch.as_tensor(y)
    if y.shape[1:] == z.movedim(-1, 1).shape[1:] != z.shape[1:]:
        y = y.movedim(1, -1)
    if y.shape not in {z.shape, z.shape[:-1]}:
        raise InputError(
            f"expected targets {list(z.shape[:-1])} or {list(z.shape)}, as the head "
            f"gives, got {list(y.shape)}; pass those of the same samples"
        )
    if weight is not None:
        weight = torch.as_tensor(weight).repeat_interleave(z[0, ..., 0].numel())
    z = z.flatten(0, -2)
    return z, y.reshape(len(z), *y.shape[z.ndim :]), weight


class _After:
    """A loss of what comes after the head, as the model lays it out."""

    def __init__(
        self, loss: Any, link: Linked | None, *, last: bool, each: bool
    ) -> None:
        module = isinstance(loss, nn.Module)
        self.loss = OnScores(loss, each=each) if module else loss
        self.link, self.last = link, last
        name = getattr(loss, "__name__", type(loss).__name__)
        follows = "" if link is None or link.link == "identity" else f" of {link.link}"
        self.__name__ = name + follows

    def __call__(self, z: Tensor, y: Tensor) -> Any:
        z = z.movedim(1, -1) if self.last else z
        if self.link is not None:
            z = self.link.made(z)
        elif z.shape[1:] == (1,) and y.ndim == 1:
            z = z[:, 0]
        return self.loss(z, y)
