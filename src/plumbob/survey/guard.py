"""Everything that measuring might touch is put back, bit for bit, also on error."""

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from plumbob.survey.quiet import quiet

# (read, write) of what torch keeps per process or thread
SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (
        torch.backends.mha.get_fastpath_enabled,
        torch.backends.mha.set_fastpath_enabled,
    ),
    (
        lambda: torch.backends.mkldnn.enabled,
        lambda on: setattr(torch.backends.mkldnn, "enabled", on),
    ),
    (
        lambda: torch.backends.cudnn.enabled,
        lambda on: setattr(torch.backends.cudnn, "enabled", on),
    ),
    (
        lambda: torch.backends.cudnn.deterministic,
        lambda on: setattr(torch.backends.cudnn, "deterministic", on),
    ),
    (
        lambda: torch.backends.cudnn.benchmark,
        lambda on: setattr(torch.backends.cudnn, "benchmark", on),
    ),
    (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda mode: torch.use_deterministic_algorithms(mode[0], warn_only=mode[1]),
    ),
    (torch.get_default_dtype, torch.set_default_dtype),
)

# the memory, its bytes before, the tensor (which keeps it alive)
Memory = tuple[torch.UntypedStorage, torch.UntypedStorage, torch.Tensor]


@contextmanager
def untouched(model: nn.Module) -> Generator[None, None, None]:
    """Restore the model, the random states and torch's switches on leaving.

    Restored are the values of parameters, buffers, gradients and of tensors kept as
    plain attributes; which tensors, gradients, hooks, modules, lists and mappings a
    module holds; `requires_grad`; the mode of every module; the generators of
    Python, NumPy and torch; and SWITCHES. Holds one copy of the model meanwhile:
    less than its gradient and an optimiser take. A watch takes no note of it.

    What a module changes inside other objects that it keeps (a cache of its own
    class, a file, a counter outside) cannot be seen here and stays changed.
    """
    put_back = _remember(model)
    switches = [read() for read, _ in SWITCHES]
    try:
        with same_random(), quiet():
            yield
    finally:
        for (_, write), value in zip(SWITCHES, switches, strict=True):
            write(value)
        put_back()


@contextmanager
def or_as_before(module: nn.Module) -> Generator[None, None, None]:
    """Put a module back as it was where what changes it fails half-way."""
    put_back = _remember(module)
    try:
        yield
    except BaseException:
        put_back()
        raise


def _remember(model: nn.Module) -> Callable[[], None]:
    modules = [attributes_of(module) for module in model.modules()]
    tensors = [_tensor_state(tensor) for tensor in _tensors(model)]
    memory = _memory(model)

    def put_back() -> None:
        for part in (*modules, *tensors):
            part()
        for storage, before, _ in memory:
            storage.copy_(before, non_blocking=False)

    return put_back


def attributes_of(thing: object) -> Callable[[], None]:
    """Remember what an object's attributes are and what their containers hold."""
    attributes = dict(vars(thing))
    contents = [
        (value, value.copy())
        for value in attributes.values()
        if isinstance(value, (dict, OrderedDict, list, set, deque))
    ]

    def put_back() -> None:
        now = vars(thing)
        for name in now.keys() - attributes.keys():
            del now[name]
        now.update(attributes)
        for value, before in contents:
            value.clear()
            if isinstance(value, (dict, set)):
                value.update(before)
            else:
                value.extend(before)

    return put_back


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield parameters, buffers and tensors that are plain attributes, each once."""
    seen = set[int]()
    for module in model.modules():
        for holder in (vars(module), module._parameters, module._buffers):  # pyright: ignore[reportPrivateUsage]
            for value in list(holder.values()):
                if isinstance(value, torch.Tensor) and id(value) not in seen:
                    seen.add(id(value))
                    yield value


def _tensor_state(tensor: torch.Tensor) -> Callable[[], None]:
    """Remember a tensor's memory, gradient, hooks and whether it wants a gradient."""
    data = tensor.data
    if not tensor.is_leaf:
        return lambda: None
    wants, gradient = tensor.requires_grad, tensor.grad
    hooks = tensor._backward_hooks  # pyright: ignore[reportPrivateUsage]
    held = None if hooks is None else hooks.copy()

    def put_back() -> None:
        if tensor.data_ptr() != data.data_ptr() or tensor.shape != data.shape:
            tensor.data = data
        if tensor.requires_grad != wants:
            tensor.requires_grad_(wants)
        if tensor.grad is not gradient:
            tensor.grad = gradient
        if hooks is not None and held is not None:
            hooks.clear()
            hooks.update(held)
        elif tensor._backward_hooks:  # pyright: ignore[reportPrivateUsage]
            tensor._backward_hooks.clear()  # pyright: ignore[reportPrivateUsage]

    return put_back


def _memory(model: nn.Module) -> list[Memory]:
    """Copy the bytes behind all tensors: views, ties and strides need no care so."""
    memory: dict[int, Memory] = {}
    for tensor in _tensors(model):
        gradient = tensor.grad if tensor.is_leaf else None
        for part in (tensor, gradient):
            if part is None or part.layout != torch.strided or part.is_meta:
                continue
            storage = part.untyped_storage()
            key = storage._cdata  # pyright: ignore[reportPrivateUsage]
            if key not in memory:
                memory[key] = (storage, storage.clone(), part)
    return list(memory.values())


@contextmanager
def same_random() -> Generator[None, None, None]:
    """Restore the states of the global random generators on leaving."""
    python, numpy = random.getstate(), np.random.get_state()
    torch_cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
