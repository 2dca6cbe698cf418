"""The graph of a model that has lost parameters, without another export."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from plumbob.survey.graph import Graph


def lighter(graph: Graph, gone: Collection[str]) -> Graph | None:
    """Take parameters out of a graph, in place, as if exported without them.

    Returns:
        The graph, or None where an operation cannot do without one of them: then
        nothing was changed, and the model has to be exported again.
    """
    lost = [
        node
        for node in graph.module.graph.nodes
        if node.op == "placeholder" and graph.parameters.get(node.name) in gone
    ]
    if not all(_spared(user, node) for node in lost for user in node.users):
        return None
    for node in lost:
        for user in list(node.users):
            _without(user, node)
        graph.module.graph.erase_node(node)
    kept = {key: name for key, name in graph.parameters.items() if name not in gone}
    return replace(graph, parameters=kept)


def _spared(user: fx.Node, node: fx.Node) -> bool:
    """Say whether an operation does as well with None in place of a tensor."""
    schema = getattr(user.target, "_schema", None)
    slots = schema.arguments if schema is not None else []
    spared = [
        value is node and str(slot.type) == "Optional[Tensor]"
        for slot, value in zip(slots, user.args, strict=False)
    ]
    every = pytree.tree_leaves((user.args, dict(user.kwargs)))
    return sum(spared) == sum(value is node for value in every)


def _without(user: fx.Node, node: fx.Node) -> None:
    """Leave a tensor out of the arguments; export leaves defaults out at the end."""
    args: list[Any] = [None if value is node else value for value in user.args]
    slots = user.target._schema.arguments  # pyright: ignore
    while args[-1] is None and slots[len(args) - 1].has_default_value():
        args.pop()
    user.args = tuple(args)
