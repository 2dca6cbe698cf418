"""How optimisers step: inside of wrappers, with closures, without telling."""

from collections.abc import Callable
from typing import Any

import torch


def bare_optimizer(one: Any) -> Any:
    """Return the optimiser inside of wrappers that pass steps on to it."""
    while isinstance(inside := getattr(one, "optimizer", None), torch.optim.Optimizer):
        one = inside
    return one


def tells(one: Any) -> bool:
    """Whether an optimiser tells of its steps: torch's do, what looks like one not."""
    return isinstance(one, torch.optim.Optimizer)


def with_closure(args: Any, kwargs: Any, look: Callable[[], None]) -> Any:
    """Return a step's arguments with a look after its closure's first call, if any."""
    closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
    if not callable(closure):
        return None
    looked = False

    def looking() -> Any:
        nonlocal looked
        loss = closure()
        if not looked:
            looked = True
            look()
        return loss

    if "closure" in kwargs:
        return args, {**kwargs, "closure": looking}
    return (args[0], looking, *args[2:]), kwargs
