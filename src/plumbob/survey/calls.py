"""Which parameters are read outside the calls of the modules that hold them."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import nn

from plumbob.survey.graph import Graph, canonical

HOOKS = nn.modules.module


class Calls:
    """Follows which module is being called, and notes who reads what.

    A hook on a layer sees its `__call__` and nothing else: `layer.forward(x)`,
    `linear(x, layer.weight)` and `layer.bias.sum()` pass it by.
    """

    def __init__(self, model: nn.Module) -> None:
        self.owners = _owners(model)
        self.running: list[nn.Module] = []
        self.strays = set[str]()

    def reads(self, parameter: str) -> None:
        """Note that a parameter is read now."""
        owners = self.owners[parameter].values()
        if not self.running or all(self.running[-1] is not m for m in owners):
            self.strays.add(parameter)

    @contextmanager
    def followed(self) -> Generator[None, None, None]:
        """Follow the calls meanwhile."""

        def enter(module: nn.Module, _: Any) -> None:
            self.running.append(module)

        def leave(module: nn.Module, _: Any, __: Any) -> None:
            while self.running and self.running.pop() is not module:
                pass  # a call that failed, where the model went on

        hooks = (
            HOOKS.register_module_forward_pre_hook(enter),
            HOOKS.register_module_forward_hook(leave, always_call=True),
        )
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self.running.clear()


def strays(model: nn.Module, graph: Graph) -> set[str]:
    """Return the parameters that a graph reads outside the calls of their owners.

    A recorded graph does not know of calls and names none.
    """
    owners = _owners(model)
    found = set[str]()
    for node in graph.module.graph.find_nodes(op="placeholder"):
        name = graph.parameters.get(node.name, "")
        for reader in () if graph.on_this_path else node.users:
            stack = list((reader.meta.get("nn_module_stack") or {}).values())
            called = stack[-1][0].partition("@")[0] if stack else ""
            mine = {f"model.{path}".rstrip(".") for path in owners.get(name, ())}
            if mine and called not in mine:  # one that has left since is nobody's
                found.add(name)
    return found


def _owners(model: nn.Module) -> dict[str, dict[str, nn.Module]]:
    """Return for each parameter the modules that hold it, by their paths."""
    names = canonical(model)
    owners: dict[str, dict[str, nn.Module]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, _ in module.named_parameters(recurse=False, remove_duplicate=False):
            if own := names.get(f"{path}.{name}" if path else name):
                owners.setdefault(own, {})[path] = module
    return owners
