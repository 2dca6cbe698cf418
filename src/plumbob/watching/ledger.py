"""Which loss belongs to which step, whoever tells of it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.survey.stream.several import Several


class Ledger:
    """Losses heard since the last step of an optimiser are that step's: their mean.

    Those without gradients are validation losses: their mean is told before the next
    step. What the loop tells itself stands for what was heard.
    """

    def __init__(
        self,
        note: Callable[[Any, str], None],
        hold: Callable[[Any], None],
        optimizers: Sequence[Any],
        model: nn.Module,
    ) -> None:
        self.note, self.hold = note, hold
        self.optimizers, self.model = optimizers, model
        self.names: dict[int, str] = {}
        self.steps: list[Tensor] = []
        self.held: list[Tensor] = []
        self.by_hand = self.held_by_hand = False
        self.noted = False  # since the loop told of a loss

    def hear(self, value: Tensor) -> None:
        """Take in a loss as it is computed."""
        if value.requires_grad:
            self.validated()
            if not self.by_hand:
                self.steps.append(value.detach().reshape(()))
        elif not self.held_by_hand:
            self.held.append(value.detach().reshape(()))

    def stepped(self, optimizer: Any = None) -> None:
        """Note the losses of a step that has been taken."""
        if self.steps:
            self.noted = True
            self.note(_mean(self.steps), self.name(optimizer))
            self.steps.clear()

    def validated(self) -> None:
        """Note the losses on held-out data."""
        if self.held:
            self.hold(_mean(self.held))
            self.held.clear()

    def told(self, loss: Any) -> bool:
        """Take the loop's word from now on; return whether this loss is not known."""
        known = self.noted and not self.by_hand
        self.by_hand, self.noted = True, False
        self.steps.clear()
        return loss is not None and not known

    def held_told(self) -> None:
        """Take the loop's word for held-out data from now on."""
        self.held_by_hand = True
        self.held.clear()

    def name(self, optimizer: Any) -> str:
        """Return what an optimiser trains: a model of several, or a number."""
        if id(optimizer) not in self.names:
            self.names[id(optimizer)] = self._new(optimizer)
        return self.names[id(optimizer)]

    def _new(self, optimizer: Any) -> str:
        if len(self.optimizers) < 2:
            return "loss"
        if isinstance(self.model, Several):
            groups = optimizer.param_groups
            held = {id(p) for group in groups for p in group["params"]}
            own = [
                name
                for name, part in self.model.items()
                if any(id(p) in held for p in part.parameters())
            ]
            if 0 < len(own) < len(self.model):
                return " and ".join(own)
        # two optimisers of one loss step one after the other: only the first has it
        return f"loss {len(self.names) + 1}" if self.names else "loss"


def _mean(values: list[Tensor]) -> Tensor:
    if len(values) == 1:
        return values[0]
    return torch.stack([v.to(values[0]) for v in values]).mean()
