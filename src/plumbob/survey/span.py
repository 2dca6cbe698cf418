"""Whether inputs hold a constant, so that weights can do what a bias does."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import fx, nn
from torch.utils import _pytree as pytree

from plumbob.survey.affine import affine
from plumbob.survey.batches import Batch
from plumbob.survey.graph import Graph
from plumbob.survey.names import Names
from plumbob.survey.ops import SAME, SHAPE, op, shape, value
from plumbob.survey.views import views
from plumbob.types import Site

MOST = 512  # columns; what is solved below grows with their cube
MIXED = {"transpose", "permute", "t", "movedim"}  # rows and columns
EXACT = 1e-5  # rounding of float32 inputs that sum to one


def ones(
    model: nn.Module, graphs: Iterable[Graph], batch: Batch, sites: Iterable[Site]
) -> dict[str, Float[Any, " in"]]:
    """Return a with x.a = 1 for every row of the batch, by the maps that read it so.

    Asked of at least twice as many rows as columns, for fewer can always be met.
    """
    reads = [_raw(model, graph) for graph in graphs]
    given = [
        x.detach()
        for x in pytree.tree_leaves((batch.args, dict(batch.kwargs)))
        if isinstance(x, torch.Tensor) and x.is_floating_point() and x.ndim > 1
    ]
    found: dict[str, Float[Any, " in"]] = {}
    for site in sites:
        fits = [x for x in given if x.shape[-1] == site.fan_in]
        raw = reads and all(site.name in read for read in reads)
        if not (raw and len(fits) == 1):
            continue
        x = fits[0].reshape(-1, site.fan_in)
        if x.is_meta or site.fan_in > MOST or len(x) < 2 * (site.fan_in + 1):
            continue
        rows = x.double().cpu().numpy()
        if not np.isfinite(rows).all():
            continue
        some = rows[: 4 * (site.fan_in + 1)]
        a = np.linalg.lstsq(some, np.ones(len(some)), rcond=1e-9)[0]
        if np.abs(rows @ a - 1).max() < EXACT:
            found[site.name] = a
    return found


def _raw(model: nn.Module, graph: Graph) -> set[str]:
    """Return the linear maps that read nothing but rows of the model's input.

    A graph of one recorded run does not show what is changed in place.
    """
    known, names = views(graph), Names(model)
    raw, other = set[str](), set[str]()
    for node in graph.module.graph.nodes:
        for use in affine(node, known):
            rows = use.reads if use.kind == "linear" and use.axis_in == -1 else None
            (raw if _copied(rows, graph) else other).add(names.of(use))
    return set[str]() if graph.on_this_path else raw - other


def _copied(node: fx.Node | None, graph: Graph) -> bool:
    """Say whether a node has the rows of an input, unchanged."""
    while node is not None and node.name not in graph.inputs:
        source = node.args[0] if op(node) in SAME | SHAPE - MIXED else None
        if not isinstance(source, fx.Node) or shape(source)[-1:] != shape(node)[-1:]:
            return False
        if not value(node).is_floating_point():
            return False
        node = source
    return node is not None
