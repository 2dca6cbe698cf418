"""Hooks that no copy and no file of a model holds."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch


class Unsaved:
    """A hook; what a pickle or a deep copy of its module holds in its place is nothing.

    That is `__exit__` of a `nullcontext`: it takes anything, gives None, and is
    there wherever the file is read, with or without plumbob.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Give what does nothing."""
        return getattr, (nullcontext(), "__exit__")


class Hook(Unsaved):
    """A function as such a hook."""

    def __init__(self, act: Callable[..., Any]) -> None:
        self.act = act

    def __call__(self, *given: Any) -> Any:
        """Do it."""
        return self.act(*given)


class StepHook(Hook):
    """One of an optimiser; the graph of a step that is compiled breaks here once."""

    def __init__(self, act: Callable[..., Any]) -> None:
        super().__init__(act)
        self.apart = torch.compiler.disable(act)  # dear, so for these alone

    def __call__(self, *given: Any) -> Any:
        """Do it."""
        return (self.apart if torch.compiler.is_compiling() else self.act)(*given)
