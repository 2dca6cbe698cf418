"""What the optimiser's hooks that clip gradients make of one that is not finite."""

from collections.abc import Callable, Iterable, Iterator
from types import CodeType
from typing import Any

import torch
from torch import nn


def clipping(model: nn.Module, optimizers: Iterable[Any]) -> str | None:
    """Return "refuses", "spreads" or "keeps"; None where no hook clips.

    Hooks of the user are not run, but for those before a step whose code names one of
    torch's clip_grad functions: they are given gradients of ones, in which a single
    element is infinite or NaN. The caller puts the gradients back.
    """
    hooks = [(one, hook) for one in optimizers for hook in _clips(one)]
    if not hooks:
        return None
    held = [p for p in model.parameters() if p.requires_grad]
    for bad in (torch.inf, torch.nan):
        for p in held:
            p.grad = torch.ones_like(p)
        first = next(p.grad for p in held if p.numel() and p.grad is not None)
        first.view(-1)[0] = bad
        try:
            for one, hook in hooks:
                hook(one, (), {})
        except Exception:  # it raises at such a gradient, as error_if_nonfinite does
            return "refuses"
        grads = [p.grad for p in held if p.grad is not None]
        whole = sum(int((g.isfinite() & (g != 0)).sum()) for g in grads)
        if not whole:
            return "spreads"
    return "keeps"


def _clips(optimizer: Any) -> Iterator[Callable[..., Any]]:
    for hook in getattr(optimizer, "_optimizer_step_pre_hooks", {}).values():
        if any("clip_grad" in name for name in _names(getattr(hook, "__code__", None))):
            yield hook


def _names(code: CodeType | None) -> Iterator[str]:
    """Yield all global names and attributes that a function's code uses."""
    if code is None:
        return
    yield from code.co_names
    yield from code.co_freevars
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _names(part)
