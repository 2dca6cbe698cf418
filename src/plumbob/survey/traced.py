"""What export has traced, before it is decomposed: is it the same in both modes?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram


@dataclass(frozen=True, slots=True, eq=False)
class Traced:
    """The operations as text, with the modules they are of, and constant tensors."""

    operations: tuple[tuple[str, ...], ...]
    constants: Mapping[str, Any]

    @classmethod
    def of(cls, program: ExportedProgram) -> "Traced":
        """Return what was traced."""
        return cls(tuple(_operations(program.graph_module)), dict(program.constants))

    def same(self, other: "Traced") -> bool:
        """Say whether another program does the same."""
        return (
            self.operations == other.operations
            and self.constants.keys() == other.constants.keys()
            and all(_equal(a, other.constants[n]) for n, a in self.constants.items())
        )


def _operations(module: fx.GraphModule) -> Iterator[tuple[str, ...]]:
    parts = dict(module.named_modules())
    for node in module.graph.nodes:
        yield _told(node)
        if node.op == "get_attr":
            part = parts.get(str(node.target))
            if isinstance(part, fx.GraphModule):  # what runs without gradients, say
                yield from _operations(part)
            else:
                yield (f"unlike any other: {id(node)}",)


def _told(node: fx.Node) -> tuple[str, ...]:
    args = list(node.args)
    schema = getattr(node.target, "_schema", None)
    names = [slot.name for slot in schema.arguments] if schema else []
    drops = [a for n, a in zip(names, args, strict=False) if n in {"p", "dropout"}]
    if drops == [0] and "train" in names:
        args[names.index("train")] = None  # nothing is dropped in training either
    modules = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, _ in modules.values()]
    return (node.name, str(node.target), str(args), str(node.kwargs), *paths)


def _equal(a: Any, b: Any) -> bool:
    tensors = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
    return a is b or (tensors and a.dtype == b.dtype and torch.equal(a, b))
