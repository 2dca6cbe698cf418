"""Targets: of what kind they are, and whether the output can reach them."""

import math
from collections.abc import Callable, Iterable
from math import exp, inf, tanh

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from plumbob.survey.intervals import RANGES
from plumbob.survey.outcome import Asked, NotMeasuredError, has_rows
from plumbob.types import Act, Numbers, Reach, Targets

_MANY = 1000  # different values that are counted
_FEATURES = 4096  # numbers of one sample


def read(asked: Asked) -> int:
    """Return the place of the one part of the output that the loss reads.

    Raises:
        NotMeasuredError: it reads several, or none.
    """
    places = asked.read()
    if len(places) != 1:
        raise NotMeasuredError(f"the loss reads {len(places)} parts of the output")
    return places[0]


def numbers(name: str, given: Tensor) -> Numbers:
    """Return the facts of a tensor of numbers with one row for each sample."""
    rows = given.detach().double().reshape(len(given) if given.ndim else 1, -1)
    rows = rows.cpu().numpy()
    finite = np.isfinite(rows)
    values = rows[finite] if not finite.all() else rows.reshape(-1)
    by_feature = len(rows) >= 2 and rows.shape[1] <= _FEATURES and finite.all()
    return Numbers(
        name=name,
        shape=tuple(given.shape[1:]),
        samples=len(rows),
        nonfinite=int((~finite).sum()),
        low=float(values.min(initial=inf)),
        high=float(values.max(initial=-inf)),
        mean=float(values.mean()) if values.size else 0.0,
        sd=float(values.std()) if values.size else 0.0,
        whole=bool((values == np.rint(values)).all()),
        feature_mean=rows.mean(0) if by_feature else None,
        feature_sd=rows.std(0) if by_feature else None,
    )


def wanted(
    targets: object, output: Tensor | None, ignore: int | None
) -> Targets | None:
    """Return the facts of targets that are one tensor, beside the output if known."""
    leaves = pytree.tree_leaves(targets)
    if len(leaves) != 1 or not isinstance(leaves[0], Tensor) or not leaves[0].numel():
        return None
    (given,) = leaves
    if given.ndim == 0 or given.is_complex():
        return None
    facts = numbers("targets", given)
    values = given.detach().reshape(-1).to(torch.float64)
    values = values[values.isfinite()]
    kind, classes, outside = "", 0, values[:0]
    if output is not None and has_rows(output, len(given)):
        kind, classes = _kind(given, facts, output)
    if kind == "classes":
        outside = values[(values < 0) | (values >= classes)]
        outside = outside[outside != (-100 if ignore is None else ignore)]
    return Targets(
        kind=kind,
        numbers=facts,
        distinct=len(values[: 1 << 20].unique()[:_MANY]),
        classes=classes,
        outside=len(outside),
        outside_values=len(outside.unique()),
    )


def _kind(given: Tensor, facts: Numbers, output: Tensor) -> tuple[str, int]:
    rows = len(given)
    if given.numel() == output.numel():
        if not (facts.whole and facts.low >= 0 and facts.high <= 1):
            return "real", 0
        columns = given.reshape(rows, -1)
        if columns.shape[1] == 1:
            return "binary", 0
        one = bool((columns.sum(1) == 1).all())
        return ("one-hot", columns.shape[1]) if one else ("multilabel", 0)
    units = output.numel() // given.numel()
    fits = units > 1 and units * given.numel() == output.numel()
    if fits and units in output.shape[1:] and facts.whole:
        return "classes", units
    return "", 0


def reach(asked: Asked, place: int, acts: Iterable[Act]) -> Reach | None:
    """Compare targets with what the last activations can give, through the loss.

    None where the output has no bound, or the targets are no values of its own.
    """
    low, high = bounds(act for act in acts if act.ends)
    output, target = asked.parts[place].detach(), asked.targets[0]
    if (low, high) == (-inf, inf) or target.numel() != output.numel():
        return None
    goal = target.detach().to(output.dtype).reshape(output.shape)
    if not goal.isfinite().all():
        return None
    mean = goal.mean(0, keepdim=True).expand_as(goal)
    slack = 1e-6 * (1 + float(goal.abs().max()))
    outside = (goal < low - slack) | (goal > high + slack)
    made = (goal, goal.clamp(low, high), mean, output)
    with torch.no_grad():
        losses = [float(asked.value({place: part.clone()})) for part in made]
    return Reach(
        low=low,
        high=high,
        outside=float(outside.double().mean()),
        at_target=losses[0],
        clipped=losses[1],
        constant=losses[2],
        model=losses[3],
    )


def bounds(ends: Iterable[Act]) -> tuple[float, float]:
    """Return what a row of activations can give of any number."""
    low, high = -inf, inf
    for act in ends:
        if "softmax" in act.name:
            low, high = _softmax(low, high, act.size)
            if act.name == "log_softmax":
                low, high = _log(low), _log(high)
        elif act.name in RISING:
            low, high = RISING[act.name](low), RISING[act.name](high)
        elif act.name in LEAST:
            low = LEAST[act.name] if low < 0 else 0.0
        else:
            low, high = -inf, inf
    return low, high


def _softmax(low: float, high: float, size: int) -> tuple[float, float]:
    others = size - 1
    if not others:
        return 1.0, 1.0
    span = high - low
    if span > 700:  # exp overflows; also where a bound is infinite
        return 0.0, 1.0
    return 1 / (1 + others * exp(span)), 1 / (1 + others * exp(-span))


def _exp(x: float) -> float:
    return inf if x > 700 else exp(x)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -inf


# of infinity, too
RISING: dict[str, Callable[[float], float]] = {
    "exp": _exp,
    "hardsigmoid": lambda x: min(max(x / 6 + 0.5, 0.0), 1.0),
    "leaky_relu": lambda x: x,
    "log": _log,
    "log_sigmoid": lambda x: -math.log1p(_exp(-x)) if x > -700 else x,
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "sigmoid": lambda x: 1 / (1 + _exp(-x)),
    "softplus": lambda x: math.log1p(_exp(x)) if x < 700 else x,
    "softsign": lambda x: math.copysign(1.0, x) if abs(x) == inf else x / (1 + abs(x)),
    "tanh": tanh,
}
# what is never fallen below; above 0 they lie between 0 and x
LEAST = {
    "gelu": RANGES["gelu"][0],
    "hardswish": -0.375,
    "mish": -0.309,
    "silu": RANGES["silu"][0],
}
