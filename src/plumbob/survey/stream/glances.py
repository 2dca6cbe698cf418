"""Cheap signals of every step: the loss, and the norm of a gradient."""

from typing import Any

import torch
from torch import Tensor

from plumbob.survey.stream.gate import Gate
from plumbob.survey.stream.later import Later

EVERY = 4  # steps between two looks
TOGETHER = 8  # signals that are sent from a device at once


class Glances:
    """Tells a gate of signals: at once on a CPU, a few steps later from a device."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.vectors: dict[int, Tensor | None] = {}
        self.kept: list[tuple[str, str, Tensor]] = []
        self.sent: tuple[list[tuple[str, str, Tensor]], Later] | None = None

    def gradient(self, optimizer: Any, step: int) -> None:
        """Look at the gradient of the first vector, which all layers' goes into."""
        key = id(optimizer)
        if key not in self.vectors:
            some = (p for g in optimizer.param_groups for p in g["params"])
            fit = (p for p in some if p.ndim == 1 and not hasattr(p, "placements"))
            self.vectors[key] = next((p for p in fit if p.requires_grad), None)
        p = self.vectors[key]
        if p is not None and p.grad is not None:
            norm = torch.linalg.vector_norm(p.grad)
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
