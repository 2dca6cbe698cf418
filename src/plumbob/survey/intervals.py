"""What the result of one operation lies between, for every possible input.

Only what is proved is bounded, for every argument that the operation takes; whatever
is not named here may be anything. Numbers are real ones: rounding is left out.
"""

from collections.abc import Callable, Mapping
from math import inf, isnan
from typing import Any

import torch
from torch import fx

from plumbob.survey.ops import (
    ACTIVATIONS,
    DROPOUT,
    MAX_POOLS,
    SAME,
    SHAPE,
    argument,
    op,
    value,
)

Interval = tuple[float, float]
ANY: Interval = (-inf, inf)
MOVED = SAME | SHAPE | {"slice", "select", "repeat"}
MEANS = {"mean", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"}
POOLS = {"avg_pool1d", "avg_pool2d", "avg_pool3d"}
PADS = {"pad", "constant_pad_nd"}
RANGES = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softmax": (0.0, 1.0),
    "_softmax": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
    "square": (0.0, inf),
    "abs": (0.0, inf),
    "exp": (0.0, inf),
    "gelu": (-0.1701, inf),  # by erf -0.16997 at the least, by tanh -0.17004
    "silu": (-0.2785, inf),
    "selu": (-1.7581, inf),  # 1.67326 * 1.05070 = 1.75810 less a little
}
# each value by itself, alike at every place
POINTWISE = ACTIVATIONS.keys() - {
    *("softmax", "log_softmax", "_softmax", "_safe_softmax", "_log_softmax"),
    *("rrelu", "rrelu_with_noise", "rrelu_with_noise_functional"),
    *("prelu", "_prelu_kernel", "log_sigmoid_forward"),
} | {"hardtanh"}
RISING: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
}


def through(node: fx.Node, at: Mapping[fx.Node, Interval]) -> Interval:
    """Return the interval of an operation that is no map."""
    name, ins = op(node), [at.get(n, ANY) for n in node.all_input_nodes]
    if not name or not ins:
        return ANY
    if name == "getitem":  # of several results only the first is bounded
        return ANY if node.args[1] else ins[0]
    if not _real(node) or not all(map(_real, node.all_input_nodes)):
        return ANY
    if name == "cat":
        return hull(*ins)
    if name == "add" and len(ins) == 2 and not node.kwargs:
        return interval(ins[0][0] + ins[1][0], ins[0][1] + ins[1][1])
    return of_one(node, ins[0]) if len(ins) == 1 else ANY


def of_one(node: fx.Node, x: Interval) -> Interval:
    """Return the interval of a function of one tensor."""
    (low, high), name = x, op(node)
    if low == high and name in POINTWISE:
        at = torch.tensor(low, dtype=torch.float64)
        return interval(*[float(node.target(at, *node.args[1:], **node.kwargs))] * 2)  # pyright: ignore[reportCallIssue]
    if name in RISING:
        return interval(RISING[name](low), RISING[name](high))
    if name == "hardtanh":
        return _hardtanh(node, x)
    if name in RANGES:
        return RANGES[name]
    if name in CURVES:
        return CURVES[name](node)
    if name in PADS:
        return _padded(node, x)
    if name in MEANS or (name == "max" and len(node.args) == 1):
        return x
    if name in MOVED:
        return _moved(node, x)
    if name in DROPOUT:
        return _dropout(node, name, x)
    if name in MAX_POOLS:
        # a window with gaps can lie on the border alone, which is -inf
        gaps = argument(node, 4, "dilation", 1)
        return x if {1}.issuperset(_numbers(gaps)) else ANY
    if name in POOLS and argument(node, 6, "divisor_override") is None:
        return hull(x, (0.0, 0.0))  # of zeros that the border is padded with
    return ANY


def _moved(node: fx.Node, x: Interval) -> Interval:
    """Bound values as they are, or rounded to another type, which keeps their order."""
    old, new = value(node.all_input_nodes[0]).dtype, value(node).dtype
    if old == new:
        return x
    if op(node) not in {"to", "_to_copy"}:  # bits read as another type
        return ANY
    ends = torch.tensor(x, dtype=torch.float64).to(new).double().tolist()
    return interval(*ends)


def _padded(node: fx.Node, x: Interval) -> Interval:
    """Bound values as they are, and what the border is filled with."""
    constant = op(node) != "pad" or argument(node, 2, "mode", "constant") == "constant"
    fill = argument(node, 3 if op(node) == "pad" else 2, "value") or 0.0
    return hull(x, (float(fill), float(fill))) if constant else x


def _dropout(node: fx.Node, name: str, x: Interval) -> Interval:
    """Bound what is 0 with probability p, and else divided by 1 - p."""
    p = float(argument(node, 1, "p", 0.5))
    if p == 0 or argument(node, 2, "train", True) is False:
        return x
    if "alpha" in name or not 0 < p < 1:
        return ANY
    return hull((x[0] / (1 - p), x[1] / (1 - p)), (0.0, 0.0))


def _elu(node: fx.Node) -> Interval:
    """Bound scale * x above 0, alpha * scale * (exp(input_scale * x) - 1) below."""
    alpha, scale, inside = (
        float(argument(node, place, name, 1.0))
        for place, name in enumerate(("alpha", "scale", "input_scale"), 1)
    )
    known = min(alpha, scale, inside) >= 0
    return (-alpha * scale, inf) if known else ANY


def _celu(node: fx.Node) -> Interval:
    """Bound x above 0, alpha * (exp(x / alpha) - 1) below."""
    alpha = float(argument(node, 1, "alpha", 1.0))
    return (-alpha, inf) if alpha > 0 else ANY


def _softplus(node: fx.Node) -> Interval:
    """Bound log(1 + exp(beta * x)) / beta, which is x above threshold / beta."""
    beta = float(argument(node, 1, "beta", 1.0))
    known = beta > 0 and float(argument(node, 2, "threshold", 20.0)) >= 0
    return (0.0, inf) if known else ANY


def _hardtanh(node: fx.Node, x: Interval) -> Interval:
    """Bound x cut off at two ends."""
    least = float(argument(node, 1, "min_val", -1.0))
    most = float(argument(node, 2, "max_val", 1.0))
    return interval(*(min(max(end, least), most) for end in x))


CURVES: dict[str, Callable[[fx.Node], Interval]] = {
    "elu": _elu,
    "celu": _celu,
    "softplus": _softplus,
}


def hull(*parts: Interval) -> Interval:
    """Return the smallest interval that holds all of these."""
    return interval(min(p[0] for p in parts), max(p[1] for p in parts))


def interval(low: float, high: float) -> Interval:
    """Return the interval, which is all numbers where an end is none."""
    return ANY if isnan(low) or isnan(high) else (low, high)


def _real(node: fx.Node) -> bool:
    dtype = getattr(value(node), "dtype", None)
    return dtype is not None and dtype.is_floating_point


def _numbers(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, (list, tuple)) else (given,)
