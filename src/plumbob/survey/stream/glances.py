"""Cheap signals of every step: the loss, and the norm of a few gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from plumbob.survey.stream.gate import Gate
from plumbob.survey.stream.later import Later

VECTORS = 4  # gradients that are looked at
TOGETHER = 8  # signals that are sent from a device at once


class Glances:
    """Tells a gate of signals: at once on a CPU, a few steps later from a device."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.vectors: dict[int, Sequence[Tensor]] = {}
        self.kept: list[tuple[str, str, Tensor]] = []
        self.sent: tuple[list[tuple[str, str, Tensor]], Later] | None = None

    def gradients(self, optimizer: Any, step: int) -> None:
        """Look at the gradients of some vectors of an optimiser."""
        key = id(optimizer)
        if key not in self.vectors:
            groups = optimizer.param_groups
            small = [p for g in groups for p in g["params"] if p.ndim == 1]
            small = [p for p in small if not hasattr(p, "placements")]
            self.vectors[key] = small[:: -(-len(small) // VECTORS) or 1]
        grads = [g for p in self.vectors[key] if (g := p.grad) is not None]
        if grads and not grads[0].is_sparse:
            norms = torch._foreach_norm(grads)  # pyright: ignore
            norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
            self.tell("gradient", str(key), norm, step)

    def tell(self, kind: str, name: str, value: float | Tensor, step: int) -> None:
        """Take in a signal; `step` is the next one of which it can be decided."""
        if not isinstance(value, Tensor) or value.device.type == "cpu":
            self.gate.tell(kind, name, float(value), step)
            return
        self.kept.append((kind, name, value))
        if self.sent is not None and self.sent[1].ready:
            (signals, values), self.sent = self.sent, None
            for (kept, whose, _), found in zip(signals, values.read(), strict=True):
                self.gate.tell(kept, whose, float(found), step)
        if self.sent is None and len(self.kept) >= TOGETHER:
            self.sent = self.kept, Later([t for _, _, t in self.kept])
            self.kept = []
