"""Where in memory the parameters of a model, and copies of them, lie."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.survey.graph import canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Where in memory a parameter, or a copy of it, lies.

    `step` is the distance in memory of two neighbours on the parameter's first axis.
    """

    name: str
    parameter: Tensor
    start: int
    step: int


def storage(t: Tensor) -> int:
    """Return what identifies the memory behind a tensor."""
    return t.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


class Parts:
    """Finds the parameter that a tensor is, or is a part or a copy of."""

    def __init__(self, model: nn.Module) -> None:
        self.parts: dict[int, list[Part]] = {}
        every = dict(model.named_parameters(remove_duplicate=False))
        for name in dict.fromkeys(canonical(model).values()):
            p = every[name]
            if 0 in p.stride():  # expanded: its rows are one and the same
                continue
            step = p.stride(0) if p.ndim else 1
            place = Part(
                name=name, parameter=p, start=int(p.storage_offset()), step=int(step)
            )
            self.parts.setdefault(storage(p), []).append(place)
        self.copies: dict[int, tuple[Part, Tensor]] = {}

    def find(self, t: Any) -> Part | None:
        """Return that parameter, or None."""
        if not isinstance(t, Tensor) or t.layout != torch.strided:
            return None
        key = storage(t)
        if key in self.copies:
            return self.copies[key][0]
        start = int(t.storage_offset())
        parts = [
            part
            for part in self.parts.get(key, ())
            if 0 <= start - part.start < max(1, part.parameter.numel())
        ]
        # a parameter that is another's transpose has the same memory
        own = (
            part for part in parts if part.parameter is t or part.parameter is t._base
        )
        return next(own, parts[0] if parts else None)

    def copy(self, source: Any, out: Tensor) -> None:
        """Note that `out` is made of `source`, if that is a parameter."""
        part = self.find(source)
        if part is None or storage(out) == storage(source) or not out.ndim:
            return
        axes = [i for i, s in enumerate(source.stride()) if s == part.step]
        step = out.stride(axes[0]) if axes else part.step
        start = int(out.storage_offset()) - (int(source.storage_offset()) - part.start)
        self.copies[storage(out)] = replace(part, start=start, step=step), out

    def forget(self) -> None:
        """Let go of the copies."""
        self.copies.clear()
