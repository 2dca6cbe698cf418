"""A module whose call does nothing any more gives way to nn.Identity."""

from collections.abc import Collection

from torch import fx, nn

from plumbob.errors import InputError
from plumbob.mending.moves import ONE_PATH
from plumbob.mending.readers import hooked
from plumbob.survey.graph import Graph


def called(graph: Graph, node: fx.Node) -> str:
    """Return the path of the module whose call a node is in, and which call it is.

    The second call of a module is `path@1`; the model itself is the empty path, as is
    what a recorded graph does not know.
    """
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return stack[-1][0].partition(".")[2] if stack else ""


def sole_call(
    model: nn.Module, graph: Graph, path: str, nodes: Collection[fx.Node]
) -> nn.Module:
    """Return a module that is called once, to compute some nodes and no others.

    Raises:
        InputError: it does more, is called again, or has hooks.
    """
    name = path.partition("@")[0]
    paths = {n: called(graph, n) for n in graph.module.graph.nodes}
    if graph.on_this_path:
        raise InputError(ONE_PATH)
    if not path:
        raise InputError("no module is called for it: the model's forward does it")
    calls = {p for p in paths.values() if p.partition("@")[0] == name}
    module = model.get_submodule(name)
    names = [n for n, m in model.named_modules(remove_duplicate=False) if m is module]
    for reason, applies in (
        (f"{name} is called {len(calls)} times", len(calls) > 1),
        (f"{' and '.join(names)} are one module", len(names) > 1),
        (f"{name} holds other modules", any(True for _ in module.children())),
        (f"{name} has hooks, which see its values", hooked(module)),
        (
            f"{name} computes more than that",
            any(p == path and n not in nodes for n, p in paths.items() if n.users),
        ),
    ):
        if applies:
            raise InputError(reason)
    return module


def take_out(model: nn.Module, path: str) -> None:
    """Put nn.Identity in the place of a module."""
    above, _, last = path.rpartition(".")
    new = nn.Identity().train(model.get_submodule(path).training)
    setattr(model.get_submodule(above), last, new)
