"""What every unit is at most, for every possible input: intervals along the graph.

All is of one graph and of the parameters as they are. A node has one interval for all
its values; a map gives each unit its own, of which the node's is the hull. What is not
proved here may be anything; a graph of one recorded run proves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from plumbob.survey.affine import CONVOLUTIONS, Affine, affine
from plumbob.survey.graph import Graph
from plumbob.survey.intervals import ANY, Interval, hull, interval, through
from plumbob.survey.names import Names
from plumbob.survey.neighbours import after
from plumbob.survey.norms import Norms, written_out
from plumbob.survey.ops import argument, op, shape
from plumbob.survey.views import View, views
from plumbob.types import Moments

ROUNDED = 2**-7  # as bfloat16 is
BATCH_NORM = "_native_batch_norm_legit_no_training"
Ends = tuple[Float[Any, " out"], Float[Any, " out"]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What each node lies between, and of maps each unit's z by itself."""

    nodes: Mapping[fx.Node, Interval]
    units: Mapping[fx.Node, Ends]


def bounds(model: nn.Module, graph: Graph) -> Bounds:
    """Return the bounds of one graph; of a recorded run there are none."""
    if graph.on_this_path or any(p.is_meta for p in model.parameters()):
        return Bounds({}, {})
    known = views(graph)
    norms = written_out(graph.module.graph, known)
    values = named(model, graph)
    at: dict[fx.Node, Interval] = {}
    units: dict[fx.Node, Ends] = {}
    with torch.no_grad():
        for node in graph.module.graph.nodes:
            uses = list(affine(node, known))
            at[node] = ANY
            if op(node) == BATCH_NORM:
                source = node.all_input_nodes[0]
                low, high = (np.full(shape(source)[1], end) for end in at[source])
                ends = normed(node, values, (low, high))
                at[node] = ANY if ends is None else _hull(ends)
            elif not uses and node not in known:
                at[node] = through(node, at)
            elif len(uses) != 1 or node in known:
                continue
            elif uses[0].kind == "norm":
                at[node] = _norm(node, uses[0], values)
            elif uses[0].kind == "embedding":
                at[node] = _table(node, values[uses[0].weight.name])
            elif (ends := _map(uses[0], at, values, known, norms)) is not None:
                at[node], units[node] = _hull(ends), ends
    return Bounds(at, units)


def ceilings(model: nn.Module, graph: Graph) -> dict[str, Float[Any, " out"]]:
    """Return the upper bound of each unit's z by site, where all of them are finite.

    A site that is used several times has the largest of its bounds.
    """
    bound, known, names = bounds(model, graph), views(graph), Names(model)
    found: dict[str, Float[Any, " out"]] = {}
    unknown = set[str]()
    for node in graph.module.graph.nodes:
        uses = [] if node in known else list(affine(node, known))
        if len(uses) != 1 or uses[0].kind in {"norm", "embedding"}:
            continue
        name = names.of(uses[0])
        ends = bound.units.get(node)
        if ends and any(bound.nodes[n] != ANY for n in node.all_input_nodes):
            high = ends[1]
            found[name] = np.maximum(found.get(name, high), high)
        else:
            unknown.add(name)
    return {
        name: high
        for name, high in found.items()
        if name not in unknown and np.isfinite(high).any()
    }


def named(model: nn.Module, graph: Graph) -> dict[str, Tensor]:
    """Return the model's parameters by name, and with its buffers by placeholder.

    A parameter that has left the model since it was traced was 0.
    """
    own: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    for node in graph.module.graph.nodes:
        name = graph.parameters.get(node.name)
        if name is not None:
            own[node.name] = own.setdefault(name, torch.zeros(shape(node)))
        elif (buffer := graph.buffers.get(node.name)) in buffers:
            own[node.name] = buffers[str(buffer)]
    return own


def normed(node: fx.Node, values: Mapping[str, Tensor], ends: Ends) -> Ends | None:
    """Return what a batch norm with running statistics makes of these, by channel."""
    given: list[Any] = list(node.args[1:5])
    if any(isinstance(n, fx.Node) and n.name not in values for n in given):
        return None
    gain, shift, mean, var = (
        None if n is None else values[n.name].detach().double().cpu().numpy()
        for n in given
    )
    if mean is None or var is None:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = (1.0 if gain is None else gain) / np.sqrt(
            var + float(str(node.args[6]))
        )
        moved = (0.0 if shift is None else shift) - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(moved).all()):
        return None
    one, two = (_times(scale, end) + moved for end in ends)
    return np.minimum(one, two), np.maximum(one, two)


def holds(most: Float[Any, " out"], z: Moments | None) -> bool:
    """Say whether no z that was seen is above its bound, which else is no proof."""
    return z is None or bool((z.high <= most + ROUNDED * np.abs(most)).all())


def _map(
    use: Affine,
    at: Mapping[fx.Node, Interval],
    values: Mapping[str, Tensor],
    known: Mapping[fx.Node, View],
    norms: Norms,
) -> Ends | None:
    """Return what z lies between, unit by unit."""
    low, high = at.get(use.reads, ANY) if use.reads is not None else ANY
    name, node = op(use.node), use.node
    whole = use.weight.cut is None and use.kind in {"linear", "conv"}
    if (
        not (whole and name in {"linear", "addmm"} | CONVOLUTIONS)
        or node.kwargs
        or node.args[name == "addmm"] is not use.reads
    ):
        return None
    given = node.args[0] if name == "addmm" else argument(node, 2, "bias")
    if not _is(use.bias, given, (use.out,)):
        return None
    if after(use, known, norms).bias is not use.bias:  # one is added later
        return None
    if use.kind == "conv":  # zeros may stand at the border
        low, high = hull((low, high), (0.0, 0.0))
    w = values[use.weight.name].detach().double()
    w = w.T if use.transposed else w
    w = w.reshape(len(w), -1)
    up, down = (part.sum(1).cpu().numpy() for part in (w.clamp(min=0), w.clamp(max=0)))
    if len(up) != use.out:
        return None
    b = np.zeros(use.out)
    if use.bias is not None:
        b = values[use.bias.name].detach().double().reshape(-1).cpu().numpy()
    least = _times(up, low) + _times(down, high) + b
    most = _times(up, high) + _times(down, low) + b
    return least, most


def _hull(ends: Ends) -> Interval:
    return interval(float(ends[0].min()), float(ends[1].max()))


def _times(weights: Float[Any, " out"], end: Any) -> Float[Any, " out"]:
    """Multiply by an end of an interval; what has no weight does not count."""
    with np.errstate(invalid="ignore"):
        return np.where(weights == 0, 0.0, weights * end)


def _is(bias: View | None, given: Any, sizes: tuple[int, ...]) -> bool:
    """Say whether a bias is none, or a whole parameter of these sizes as it is."""
    if bias is None:
        return given is None
    return (
        bias.cut is None
        and bias.axes == (*range(len(sizes)),)
        and (shape(given) == sizes)
    )


def _table(node: fx.Node, table: Tensor) -> Interval:
    """Bound rows of a table, or their means; a row may be scaled down, a bag empty."""
    bags = op(node) in {"embedding_bag", "_embedding_bag"}
    if bags and argument(node, 4, "mode", 0) not in {1, 2}:  # a sum of many
        return ANY
    return hull((float(table.min()), float(table.max())), (0.0, 0.0))


def _norm(node: fx.Node, use: Affine, values: Mapping[str, Tensor]) -> Interval:
    """Bound a layer norm: no value of n is farther from its mean than sqrt(n - 1)."""
    if use.norm != "layer-norm" or node.kwargs:
        return ANY
    gain = values[use.weight.name].detach().double().abs()
    sizes = tuple(gain.shape)
    if (
        not _is(use.weight, node.args[2], sizes)
        or not _is(use.bias, argument(node, 3, "bias"), sizes)
        or argument(node, 4, "eps", 1e-5) < 0
    ):
        return ANY
    reach = gain * max(gain.numel() - 1, 0) ** 0.5
    shift: Tensor = torch.zeros_like(gain)
    if use.bias is not None:
        shift = values[use.bias.name].detach().double()
    return interval(float((shift - reach).min()), float((shift + reach).max()))
