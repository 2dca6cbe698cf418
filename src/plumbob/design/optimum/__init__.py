"""The best constant of an output: by a formula where there is one, else searched."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.design.optimum.losses import (
    BEFORE,
    CLASSES,
    Formula,
    OnScores,
    formula,
    halves,
    known,
    refuse_blind,
)
from plumbob.design.optimum.result import OptimalBias
from plumbob.errors import InputError
from plumbob.survey.aims import Aim, read_aim
from plumbob.survey.constant import best_shift

__all__ = ["BEFORE", "OnScores", "OptimalBias", "known", "optimal_bias"]


def optimal_bias(
    loss: Callable[..., Any],
    targets: Any,
    *,
    units: int | None = None,
    weight: Any = None,
    offset: float | Tensor = 0.0,
    scores: Tensor | None = None,
) -> OptimalBias:
    """Return the constant output with the lowest loss on the targets.

    Why:
        It needs no learning: a net that starts elsewhere first spends its steps on
        carrying its output there, through all of its weights.

    torch's own losses are read by their type and settings and have a formula; any
    other callable, a subclass too, is minimised over the constant in float64.

    Args:
        loss: as the training loop calls it, `loss(outputs, targets)`, on scores.
            NLLLoss and KLDivLoss are taken of log_softmax, BCELoss of sigmoid of the
            scores, GaussianNLLLoss with one variance for all.
        targets: class indices (N,) or (N, ...), or values (N,), (N, units), or
            (N, units, ...) where `scores` are so.
        units: of the output; by default as the targets or the scores have.
        weight: of the samples, (N,); for a loss of your own only if it returns one
            number for each.
        offset: added, such as `prior.sampling.down_sampling(keep)` or a prior shift.
        scores: what the head gives without its bias, (N, units, ...). Where they
            vary, the best bias is not the formula's, and is found numerically.

    Raises:
        InputError: the shapes do not fit, the loss does not see a constant, or falls
            for ever.

    Example:
        >>> y = torch.tensor([1.0] + 99 * [0.0])
        >>> print(optimal_bias(nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0)), y))
        unit  log-odds  log pos_weight    bias
           0    -4.595           1.609  -2.986
        rate 0.01
    """
    refuse_blind(loss)
    aim = _aim(loss, targets, units, weight, scores)
    varied = scores is not None and bool((scores != 0).any())
    found = None if varied else formula(loss, aim)
    if found is None:
        found = _searched(loss, aim, scores)
    terms = {name: t.expand(aim.units).clone() for name, t in found.terms.items()}
    high = found.high
    extra = _offset(offset, aim.units)
    if bool(extra.any()):
        terms["offset"] = extra
        high = None if high is None else high + extra
    bias = torch.stack(list(terms.values())).sum(0)
    if not bool(bias.isfinite().all()):
        raise InputError(
            f"expected a finite best bias, got {bias.tolist()} under {_name(loss)}: "
            f"{found.note}; check the targets"
        )
    return OptimalBias(bias=bias, terms=terms, note=found.note, high=high)


def _aim(
    loss: Any, targets: Any, units: int | None, weight: Any, scores: Tensor | None
) -> Aim:
    classes = isinstance(loss, CLASSES)
    own = getattr(loss, "weight", None) if classes else None
    if units is None and scores is not None:
        units = scores.shape[1] if scores.ndim > 1 else 1
    elif units is None and own is not None and own.ndim:
        units = len(own)
    ignore = getattr(loss, "ignore_index", None)
    aim = read_aim(targets, classes=classes, ignore=ignore, units=units, weight=weight)
    shape = list(aim.y.shape)
    if known(loss) and aim.units == 1 and aim.y.ndim > 2 and not aim.fits():
        aim = replace(aim, y=aim.y[:, None])  # a map (N, H, W) of one unit
    if known(loss) and not aim.fits():
        raise InputError(
            f"expected targets (N, {aim.units}) as the output has {aim.units} units, "
            f"got {shape}; for classes pass whole numbers to a class loss"
        )
    if scores is not None and len(scores) != len(aim.y):
        raise InputError(
            f"expected scores of the {len(aim.y)} samples of the targets, got "
            f"{list(scores.shape)}; pass those of the same batch"
        )
    return aim


def _searched(loss: Any, aim: Aim, scores: Tensor | None) -> Formula:
    """Minimise through the loss itself; what never occurs beside scores counts 1/2."""
    z, y, weight = aim.zeros() if scores is None else scores.cpu(), aim.y, aim.weight
    if known(loss) and y.ndim == 1 and not aim.classes:
        z = z.reshape(len(y))
    varied = scores is not None and bool((scores != 0).any())
    tail = ", with the scores' spread" if varied else ""
    more = halves(loss, aim) if varied else None
    if more is not None and bool(more[1].any()):
        ones = torch.ones(len(y)) if weight is None else weight
        ones = ones.reshape(-1, *[1] * (more[1].ndim - 1)).expand(
            -1, *more[1].shape[1:]
        )
        weight = torch.cat([ones.double(), more[1].double()])
        z = torch.cat([z, z.mean(0, keepdim=True).expand(len(more[0]), *z.shape[1:])])
        y = torch.cat([y, more[0]])
        tail += "; what does not occur counts 1/2, at the mean score"
    through = loss
    if isinstance(loss, nn.Module):
        through = OnScores(loss, each=weight is not None)
    shift = best_shift(through, z, y, weight=weight, name=_name(loss))
    return Formula({"numerical": shift}, f"minimised through {_name(loss)}{tail}")


def _offset(given: float | Tensor, units: int) -> Tensor:
    extra = torch.as_tensor(given, dtype=torch.float64).cpu().reshape(-1)
    if len(extra) not in {1, units}:
        raise InputError(
            f"expected an offset of 1 or {units} numbers, got {len(extra)}; give one "
            "for all or one for each unit"
        )
    return extra.expand(units).clone()


def _name(loss: Any) -> str:
    return getattr(loss, "__name__", type(loss).__name__)
