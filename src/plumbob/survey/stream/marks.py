"""What a step of the optimiser does to each parameter."""

from collections.abc import Iterable
from math import inf, isfinite, nan
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.types import Mark


class Marks:
    """Measures parameters and gradients before a step, and what it made of them."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {id(p): name for name, p in model.named_parameters()}
        self.parameters = dict(model.named_parameters())
        self.start = {
            n: p.detach().clone() for n, p in self.parameters.items() if p.ndim < 2
        }
        self.before: dict[str, tuple[Tensor, Tensor | None]] = {}
        self.settings: dict[str, tuple[float, float]] = {}
        self.found: dict[str, Mark] = {}

    @torch.no_grad()
    def look(self, optimizer: Any) -> None:
        """Before a step."""
        for group in optimizer.param_groups:
            for p in group["params"]:
                if name := self.names.get(id(p)):
                    grad = None if p.grad is None else p.grad.double()
                    self.before[name] = (p.detach().double().clone(), grad)
                    decay = float(group.get("weight_decay") or 0)
                    self.settings[name] = (float(group["lr"]), decay)

    @torch.no_grad()
    def compare(self, optimizer: Any) -> None:
        """After it."""
        for name, (w, g) in self.before.items():
            p = self.parameters[name]
            d = p.detach().double() - w
            norm = nan if g is None else float(g.norm())
            lr, decay = self.settings[name]
            self.found[name] = Mark(
                numel=p.numel(),
                size=float(w.norm()),
                gradient=norm if g is None or isfinite(norm) else inf,
                change=float(d.norm()),
                pull=nan if g is None else float((w * g).sum()),
                slope=nan if g is None else float((g * d).sum()),
                along=float((w * d).sum()),
                moved=float((p - self.start[name]).norm())
                if name in self.start
                else nan,
                swallowed=_swallowed(optimizer, p),
                lr=lr,
                decay=decay,
            )
        self.before.clear()

    def collect(self) -> dict[str, Mark]:
        """Return the marks since the last time."""
        found, self.found = self.found, {}
        for name in self.parameters.keys() - found.keys():
            p = self.parameters[name]
            found[name] = Mark(numel=p.numel(), size=float(p.detach().norm()))
        return found


def _swallowed(optimizer: Any, p: Tensor) -> float:
    state: Any = optimizer.state.get(p, {})
    second = state.get("exp_avg_sq", state.get("square_avg"))
    eps: Iterable[Any] = (
        g.get("eps") for g in optimizer.param_groups if any(q is p for q in g["params"])
    )
    least = next(iter(eps), None)
    if second is None or not isinstance(least, float):
        return nan
    return float((second.sqrt() < least).double().mean())
