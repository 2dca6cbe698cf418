"""In which mode a model runs while it is trained, and while it is not."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.types import Passes

_NORM = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
_DROPOUT = nn.modules.dropout._DropoutNd  # pyright: ignore[reportPrivateUsage]


class Modes:
    """Counts the passes of a model between two steps of its optimiser.

    A pass with gradients in evaluation mode counts where the step has no pass in
    training mode: else it made something for that one, such as an attack.
    """

    def __init__(self, model: nn.Module) -> None:
        self.norms = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, _NORM) and module.track_running_stats
        }
        self.differs = bool(self.norms) or any(map(_drops, model.modules()))
        self.taught = self.other = 0  # this step's passes in training mode, and not
        self.training = self.evaluating = self.trained_in_eval = 0
        self.tested_in_training = self.streak = self.repeated = 0
        self.last: Any = None
        self.frozen: dict[str, None] = {}
        self.alone: dict[str, None] = {}

    def called(self, model: nn.Module, inputs: Iterable[Any]) -> None:
        """Note that the model runs on some inputs."""
        first = next((x for x in inputs if isinstance(x, Tensor)), None)
        again = first is not None and self.last is not None and self.last() is first
        self.last = None if first is None else weakref.ref(first)
        if not torch.is_grad_enabled():
            self.evaluating += not model.training
            self.tested_in_training += model.training
            self.repeated += model.training and again
            return
        self.taught += model.training
        self.other += not model.training
        if model.training:
            single = first is not None and first.ndim > 0 and len(first) == 1
            for name, norm in self.norms.items():
                if norm.training and single:
                    self.alone[name] = None
                if not norm.training and norm.affine and norm.weight.requires_grad:
                    self.frozen[name] = None

    def stepped(self) -> None:
        """Note a step of the optimiser: the passes before it were used."""
        self.training += self.taught
        if self.taught:
            self.streak = 0
        else:
            self.trained_in_eval += self.other
            self.streak += self.other
        self.taught = self.other = 0

    def passes(self) -> Passes:
        """Return the counts so far."""
        return Passes(
            training=self.training,
            evaluating=self.evaluating,
            trained_in_eval=self.trained_in_eval,
            tested_in_training=self.tested_in_training,
            streak=self.streak,
            repeated=self.repeated,
            differs=self.differs,
            norms=len(self.norms),
            frozen=tuple(self.frozen),
            alone=tuple(self.alone),
        )


def _drops(module: nn.Module) -> bool:
    """Say whether a module leaves units out while it trains."""
    if isinstance(module, _DROPOUT):
        return module.p > 0
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return module.dropout > 0
    return False
