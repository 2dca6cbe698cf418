"""The graph of one run, for models that `torch.export` cannot trace."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from plumbob.errors import InputError, one_line

Memory = tuple[Any, ...]


def written_through(value: Any, written: Any) -> Any:
    """Stand for a tensor after an overlapping one was written in place."""
    raise NotImplementedError("a recorded graph cannot replay a partial write")


class Recorder(TorchDispatchMode):
    """Notes every aten call as a node.

    A tensor is known by its memory (storage, offset, size, stride), since autograd
    hands out views as new objects. Every write to a storage is counted, so that a
    value read through another view of it is not mistaken for the old one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.first = self.graph.call_function(operator.getitem)  # erased at the end
        self.known: dict[Memory, tuple[fx.Node, int]] = {}
        self.writes: dict[int, tuple[int, fx.Node]] = {}
        self.alive: list[torch.Tensor] = []
        self.constants: dict[str, str] = {}

    def placeholder(self, name: str, tensor: torch.Tensor) -> fx.Node:
        """Add an input of the graph."""
        with self.graph.inserting_before(self.first):
            node = self.graph.placeholder(name.replace(".", "_"))
        self.remember(tensor, node)
        return node

    def remember(self, tensor: torch.Tensor, node: fx.Node) -> None:
        """Note that a tensor's memory now holds the value of a node."""
        node.meta["val"] = _shell(tensor)
        count, _ = self.writes.get(_storage(tensor), (0, node))
        self.known[_memory(tensor)] = (node, count)
        self.alive.append(tensor)  # else its address may be given to another tensor

    def node(self, tensor: torch.Tensor) -> fx.Node:
        """Return the node whose value a tensor holds; a new input if unknown."""
        if _memory(tensor) not in self.known:
            name = f"constant_{len(self.constants)}"
            node = self.placeholder(name, tensor)
            self.constants[node.name] = name
        node, seen = self.known[_memory(tensor)]
        count, writer = self.writes.get(_storage(tensor), (0, node))
        if seen < count:
            node = self.graph.call_function(written_through, (node, writer))
            self.remember(tensor, node)
        return node

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        nodes = pytree.tree_map_only(torch.Tensor, self.node, (args, kwargs))
        # packed weights of quantised layers cannot be written as code
        nodes = pytree.tree_map_only(torch.ScriptObject, repr, nodes)
        result = func(*args, **kwargs)
        written = [
            value
            for i, slot in enumerate(func._schema.arguments)
            if slot.alias_info is not None and slot.alias_info.is_write
            for value in pytree.tree_leaves(
                args[i] if i < len(args) else kwargs.get(slot.name)
            )
            if isinstance(value, torch.Tensor)
        ]
        call = self.graph.call_function(_functional(func), *nodes)
        for tensor in written:
            count, _ = self.writes.get(_storage(tensor), (0, call))
            self.writes[_storage(tensor)] = (count + 1, call)
        if isinstance(result, torch.Tensor):
            self.remember(result, call)
        elif isinstance(result, (tuple, list)):
            call.meta["val"] = pytree.tree_map_only(torch.Tensor, _shell, result)
            for i, part in enumerate(result):
                if isinstance(part, torch.Tensor):
                    item = self.graph.call_function(operator.getitem, (call, i))
                    self.remember(part, item)
        return result


def record_graph(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    parameters: Mapping[str, nn.Parameter],
    tensors: Callable[[Any], Any],
) -> tuple[fx.GraphModule, dict[str, str], dict[str, str], list[str], list[str]]:
    """Run a model once and note what it does.

    `tensors` yields the tensors of an output. Buffers are cloned, so that the model
    keeps its own.

    Returns:
        The graph, its parameters and buffers by placeholder, inputs and outputs.

    Raises:
        InputError: the model cannot run on this input.
    """
    recorder = Recorder()
    names = {recorder.placeholder(f"p_{n}", p).name: n for n, p in parameters.items()}
    clones = {n: b.detach().clone() for n, b in model.named_buffers()}
    buffers = {recorder.placeholder(f"b_{n}", b).name: n for n, b in clones.items()}
    # The model may write to its input, which is the user's.
    args, kwargs = pytree.tree_map_only(torch.Tensor, torch.clone, (args, dict(kwargs)))
    given = [v for v in pytree.tree_leaves((args, kwargs)) if _is_tensor(v)]
    inputs = [recorder.placeholder(f"input_{i}", v).name for i, v in enumerate(given)]
    try:
        with recorder:
            output = torch.func.functional_call(model, clones, args, dict(kwargs))
    except Exception as error:  # forward is the user's: it may raise anything
        raise InputError(
            f"expected {type(model).__name__} to run on the given batch, but its "
            f"forward raised {one_line(error)}; check that the batch is what the "
            "model takes"
        ) from error
    outputs = [recorder.node(t) for t in tensors(output)]
    recorder.graph.output(tuple(outputs))
    recorder.graph.erase_node(recorder.first)
    module = fx.GraphModule(nn.Module(), recorder.graph)
    buffers |= recorder.constants
    return module, names, buffers, inputs, [node.name for node in outputs]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _shell(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(
        tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta"
    )


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


def _memory(tensor: torch.Tensor) -> Memory:
    place = (_storage(tensor), tensor.storage_offset(), tensor.dtype)
    return (*place, *tensor.size(), *tensor.stride())


def _functional(func: Any) -> Any:
    """Return the operation of the same name and overload that does not write."""
    name, _, overload = str(func).removeprefix("aten.").partition(".")
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None)
    return getattr(packet, overload, func) if name.endswith("_") else func
