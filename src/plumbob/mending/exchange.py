"""A module that is called once gives way to another, or to nn.Identity."""

from collections.abc import Collection

from torch import fx, nn

from plumbob.errors import InputError
from plumbob.mending.hooks import hooked
from plumbob.mending.moves import ONE_PATH
from plumbob.survey.graph import Graph


def called(graph: Graph, node: fx.Node) -> str:
    """Return the path of the innermost module whose call a node is part of.

    The second call of a module is `path@1`. The model itself is the empty path, as is
    what a recorded graph does not know.
    """
    stack = node.meta.get("nn_module_stack") or {}
    if graph.on_this_path or not stack:
        return ""
    call, (path, *_) = list(stack.items())[-1]
    again = call.rpartition(".")[2].partition("@")[2]
    return path.partition(".")[2] + (f"@{again}" if again else "")


def sole_call(
    model: nn.Module, graph: Graph, path: str, nodes: Collection[fx.Node]
) -> nn.Module:
    """Return a module that is called once, to compute some nodes and no others.

    Raises:
        InputError: it does more, is called again, or has hooks.
    """
    if graph.on_this_path:
        raise InputError(ONE_PATH)
    if not path:
        raise InputError("the model's own forward does it, and no module of its own")
    name = path.partition("@")[0]
    module = model.get_submodule(name)
    calls = {n: called(graph, n) for n in graph.module.graph.nodes}
    same = [n for n, call in calls.items() if call.partition("@")[0] == name]
    names = [n for n, m in model.named_modules(remove_duplicate=False) if m is module]
    if (times := len({calls[n] for n in same})) > 1:
        raise InputError(f"{name} is called {times} times")
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} are one module")
    if any(True for _ in module.children()) or any(n not in nodes for n in same):
        raise InputError(f"{name} does more than that")
    if why := hooked(model, [f"{name}.weight"], ()):
        raise InputError(why)
    return module


def exchange(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put a module in the place of another, in the same mode."""
    above, _, last = path.rpartition(".")
    new.train(model.get_submodule(path).training)
    setattr(model.get_submodule(above), last, new)


def take_out(model: nn.Module, path: str) -> None:
    """Put nn.Identity in the place of a module."""
    exchange(model, path, nn.Identity())
