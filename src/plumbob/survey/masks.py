"""Masks of attention that are the same for every input, and what they leave."""

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

KNOWN = "leaves a key"  # of a node's meta: computed once, for a mask is read per layer


def leaves_a_key(mask: Any) -> bool:
    """Say whether every query may look at some key, whatever the input.

    Scaled dot-product attention gives 0 where a mask leaves no key, so there the
    weights do not sum to one. Known only of masks that are computed from nothing but
    numbers, as the causal one; a user's own may close a row.
    """
    if mask is None:
        return True
    if not isinstance(mask, fx.Node):
        return False
    if KNOWN not in mask.meta:
        values = _constant(mask)
        if values is not None and values.is_floating_point():
            values = values > -torch.inf
        mask.meta[KNOWN] = values is not None and bool(values.bool().any(-1).all())
    return mask.meta[KNOWN]


def _constant(node: fx.Node) -> Tensor | None:
    """Compute a node on the CPU; None where it reads an input or a parameter."""
    needed = set[fx.Node]()
    todo = [node]
    while todo:
        at = todo.pop()
        tags = getattr(at.target, "tags", ())
        if at.op != "call_function" or torch.Tag.nondeterministic_seeded in tags:
            return None
        needed.add(at)
        todo += [n for n in at.all_input_nodes if n not in needed]
    values: dict[fx.Node, Any] = {}
    for at in node.graph.nodes:
        if at not in needed:
            continue
        args, kwargs = map_arg((at.args, at.kwargs), values.__getitem__)
        if "device" in kwargs:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        assert callable(at.target)
        values[at] = at.target(*args, **kwargs)
    return values[node]
