"""Whether gradients of a step before are still there when the next ones come."""

from collections.abc import Callable, Iterable
from functools import partial
from math import isfinite
from typing import Any

from torch import Tensor


class Leftovers:
    """Asks it of a small parameter of an optimiser, when a backward pass reaches it.

    Gradients that were cleared at any time between two steps are those of the later
    one: some pass found none, or zeros. So passes that add up before a step count as
    one, and a rival's passes, whose gradients are cleared later, are no fault.
    """

    def __init__(self, parameters: Iterable[Tensor], heard: Callable[..., Any]) -> None:
        self.looked = 0
        self.uncleared: Tensor | None = None
        self.handle = None
        self.begun = False  # nothing is left of a step before the first one
        self.passes = 0
        self.cleared = False
        self.left: Tensor | None = None
        fit = [p for p in parameters if p.requires_grad and p.is_leaf]
        if fit:
            least = max(1, min(p.ndim for p in fit))
            self.probe = next(p for p in reversed(fit) if p.ndim <= least)
            self.first = (0,) * self.probe.ndim
            self.handle = self.probe.register_hook(partial(heard, self._passed))

    @property
    def broken(self) -> bool:
        """Whether one number of a gradient is not finite; asked on a CPU alone."""
        g = None if self.handle is None else self.probe.grad
        if g is None or not g.is_cpu or g.is_sparse or not g.numel():
            return False
        return not isfinite(g[self.first].item())

    def _passed(self, gradient: Tensor) -> None:
        if not self.begun:
            return
        self.passes += 1
        old = self.probe.grad
        if old is None:
            self.cleared = True
        if old is None or self.cleared:
            return
        there = old.detach().any()
        self.left = there if self.left is None else self.left & there

    def stepped(self) -> None:
        """Say that the optimiser has taken a step."""
        if self.passes:
            self.looked += 1
            if not self.cleared and self.left is not None:
                left = self.left.long()
                self.uncleared = (
                    left if self.uncleared is None else self.uncleared + left
                )
        self.begun, self.passes, self.cleared, self.left = True, 0, False, None

    def close(self) -> None:
        """Take the hook off."""
        if self.handle is not None:
            self.handle.remove()
