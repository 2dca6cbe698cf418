"""All that may be seen of a model, its optimiser and the process, to compare."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from plumbob.survey.optimizer import each


def seen(model: nn.Module, optimizer: Any = None) -> list[object]:
    """Return what a check must leave as it was, in a form that == compares.

    But for Python's own random state: beartype, where it is on, draws from it.
    """
    modules = list(model.modules())
    numbers = np.random.get_state()
    return [
        _tensors([*model.named_parameters(), *model.named_buffers()]),
        [module.training for module in modules],
        [_hooks(module) for module in modules],
        [_optimizer(one) for one in (each(optimizer) if optimizer else ())],
        [part.tobytes() if isinstance(part, np.ndarray) else part for part in numbers],
        _bytes(torch.get_rng_state()),
    ]


def _optimizer(optimizer: Any) -> list[object]:
    """Return groups, state and hooks, and all parameters, foreign ones too."""
    held = [
        (f"{i}.{j}", p)
        for i, group in enumerate(optimizer.param_groups)
        for j, p in enumerate(group["params"])
    ]
    kept = [(id(p), values) for p, values in optimizer.state.items()]
    return [
        _tensors(held),
        list(_leaves([g | {"params": ()} for g in optimizer.param_groups])),
        list(_leaves(kept)),
        _hooks(optimizer),
    ]


def _tensors(named: list[tuple[str, Tensor]]) -> list[object]:
    grads = [(f"{name}.grad", t.grad) for name, t in named if t.is_leaf]
    return [
        (name, id(t), t.dtype, t.requires_grad, _bytes(t))
        for name, t in (*named, *grads)
        if t is not None
    ]


def _hooks(owner: object) -> list[object]:
    held: list[Any] = [value for name, value in vars(owner).items() if "_hooks" in name]
    return [[*hooks.values()] for hooks in held if isinstance(hooks, dict)]


def _leaves(values: Any) -> Iterator[object]:
    """Yield the numbers, texts and tensors in what a group or a state holds."""
    parts: Iterable[object] = pytree.tree_leaves(values)
    for part in parts:
        yield _bytes(part) if isinstance(part, Tensor) else part


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
