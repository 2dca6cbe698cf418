"""What every unit is at most, for every possible input: intervals along the graph.

All is of the inference graph and of the parameters as they are. A node has one
interval for all its values; a map gives each unit its own, of which the node's is the
hull. What is not known here may be anything.
"""

from collections.abc import Callable, Mapping
from math import inf, isnan
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from plumbob.survey.affine import CONVOLUTIONS, Affine, affine
from plumbob.survey.graph import Graph
from plumbob.survey.names import Names
from plumbob.survey.ops import DROPOUT, MAX_POOLS, SAME, SHAPE, op
from plumbob.survey.views import views

Interval = tuple[float, float]
ANY: Interval = (-inf, inf)
KEPT = SAME | SHAPE | DROPOUT | MAX_POOLS | {"slice", "select", "repeat", "max"}
# A mean lies between the extremes; of a padded window zeros count too
MEANS = {"mean", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"}
POOLS = {"avg_pool1d", "avg_pool2d", "avg_pool3d"}
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
    "softplus": (0.0, inf),
    "gelu": (-0.17, inf),
    "silu": (-0.28, inf),
    "elu": (-1.0, inf),
}
RISING: dict[str, Callable[[float], float]] = {
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
}


def ceilings(model: nn.Module, graph: Graph) -> dict[str, Float[Any, " out"]]:
    """Return the upper bound of each unit's z by site, where all of them are finite.

    A site that is used several times has the largest of its bounds.
    """
    if any(p.is_meta for p in model.parameters()):
        return {}
    known, names = views(graph), Names(model)
    values = dict(model.named_parameters(remove_duplicate=False))
    found: dict[str, Float[Any, " out"]] = {}
    at: dict[fx.Node, Interval] = {}
    unknown = set[str]()
    with torch.no_grad():
        for node in graph.module.graph.nodes:
            uses = list(affine(node, known))
            if len(uses) != 1 or node in known:
                at[node] = ANY if uses or node in known else _through(node, at)
                continue
            use, high = uses[0], None
            at[node] = ANY
            if use.kind == "norm":
                at[node] = _norm(node, use, values)
            elif use.kind == "embedding":
                table = values[use.weight.name]
                at[node] = (float(table.min()), float(table.max()))
            elif (bounds := _map(use, at, values)) is not None:
                low, high = bounds
                at[node] = (float(low.min()), float(high.max()))
            if use.kind in {"norm", "embedding"}:
                continue
            name = names.of(use)
            if high is None:
                unknown.add(name)
            else:
                found[name] = np.maximum(found.get(name, high), high)
    return {
        name: high
        for name, high in found.items()
        if name not in unknown and np.isfinite(high).any()
    }


def _map(
    use: Affine, at: Mapping[fx.Node, Interval], values: Mapping[str, Tensor]
) -> tuple[Float[Any, " out"], Float[Any, " out"]] | None:
    """Return what z lies between, unit by unit."""
    low, high = at.get(use.reads, ANY) if use.reads is not None else ANY
    whole = use.weight.cut is None and use.kind in {"linear", "conv"}
    # elsewhere a bias may be added later
    biased = op(use.node) in {"linear", "addmm"} | CONVOLUTIONS
    if not (whole and biased) or use.node.kwargs or (low, high) == ANY:
        return None
    if use.kind == "conv":  # zeros may stand at the border
        low, high = min(low, 0.0), max(high, 0.0)
    w = values[use.weight.name].detach().double()
    w = w.T if use.transposed else w
    w = w.reshape(len(w), -1)
    up, down = (part.sum(1).cpu().numpy() for part in (w.clamp(min=0), w.clamp(max=0)))
    if len(up) != use.out:
        return None
    b = np.zeros(use.out)
    if use.bias is not None:
        bias = values[use.bias.name].detach().double().reshape(-1).cpu().numpy()
        if use.bias.cut is not None or len(bias) != use.out:
            return None
        b = bias
    least = _times(up, low) + _times(down, high) + b
    most = _times(up, high) + _times(down, low) + b
    return least, most


def _times(weights: Float[Any, " out"], end: float) -> Float[Any, " out"]:
    """Multiply by an end of an interval; what has no weight does not count."""
    with np.errstate(invalid="ignore"):
        return np.where(weights == 0, 0.0, weights * end)


def _norm(node: fx.Node, use: Affine, values: Mapping[str, Tensor]) -> Interval:
    """Bound a layer norm: no value of n is farther from its mean than sqrt(n - 1)."""
    gain = values[use.weight.name].detach().double().abs()
    if use.norm != "layer-norm" or use.weight.cut is not None:
        return ANY
    reach = gain * max(gain.numel() - 1, 0) ** 0.5
    shift: Tensor = torch.zeros_like(gain)
    if use.bias is not None:
        shift = values[use.bias.name].detach().double()
        if shift.shape != gain.shape:
            return ANY
    return float((shift - reach).min()), float((shift + reach).max())


def _through(node: fx.Node, at: Mapping[fx.Node, Interval]) -> Interval:
    """Return the interval of an operation that is no map."""
    name, ins = op(node), [at.get(n, ANY) for n in node.all_input_nodes]
    if not name or not ins:
        return ANY
    low, high = ins[0]
    if name == "getitem":
        return ANY if node.args[1] else (low, high)
    if name in RISING:
        return RISING[name](low), RISING[name](high)
    if name in RANGES:
        return RANGES[name]
    if name in KEPT or name in MEANS:
        single = len(ins) == 1 and not (name == "max" and len(node.args) > 1)
        return (low, high) if single else ANY
    if name in POOLS:
        return min(low, 0.0), max(high, 0.0)
    if name == "cat":
        return min(i[0] for i in ins), max(i[1] for i in ins)
    if name == "add" and len(ins) == 2 and not node.kwargs:
        low, high = low + ins[1][0], high + ins[1][1]
        return ANY if isnan(low) or isnan(high) else (low, high)
    return ANY
