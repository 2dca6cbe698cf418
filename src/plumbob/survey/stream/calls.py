"""When a model is called, and on how many inputs."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from plumbob.survey.graph import tensors
from plumbob.survey.quiet import aside
from plumbob.survey.stream.modes import Modes
from plumbob.survey.stream.unsaved import Hook

HELD = (nn.ModuleList, nn.ModuleDict)  # never called themselves

Pass = Callable[[nn.Module, Any, Any], None]  # gets what a module is called with


class Calls:
    """Hooks on what the loop calls; `samples` are the inputs of the step to come.

    Where a model is never called itself (a LightningModule, a pair of rivals), its
    parts are listened to. Inside of a compiled graph nothing is heard. `on_pass` is
    told of each pass with gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        modes: Modes,
        heard: Callable[..., None],
        on_pass: Pass | None = None,
    ) -> None:
        self.modes, self.heard, self.on_pass = modes, heard, on_pass
        self.fresh = False  # whether gradients were recorded since the last step
        self.idle = False  # a pass of a step that is not measured is only counted
        self.samples = 0
        self.parts = [_hook(part, self._called) for part in _parts(model)]
        self.root = _hook(model, self._called_whole)

    def _called_whole(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if aside():
            return
        if self.parts:
            for handle in self.parts:
                handle.remove()
            self.parts.clear()
        self._begins(module, args, kwargs)

    def _called(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not aside():
            self._begins(module, args, kwargs)

    def _begins(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        teaches = torch.is_grad_enabled()
        if teaches and self.on_pass is not None:
            self.on_pass(module, args, kwargs)
        if teaches and self.idle and module.training:
            self.fresh = True
            self.modes.taught += 1
            self.modes.last = None  # what comes next repeats nothing
        else:
            self.heard(self._note, module, args, kwargs)

    def _note(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        plain = bool(args) and isinstance(args[0], Tensor)
        leaves = args[:1] if plain else tuple(tensors((args, kwargs)))
        self.modes.called(module, leaves)
        if torch.is_grad_enabled():
            self.fresh = True
            packed = not plain and any(isinstance(a, PackedSequence) for a in args)
            self.samples += _samples(args if packed else (), leaves)

    def stepped(self) -> int:
        """Say that a step was taken; return of how many inputs."""
        self.modes.stepped()
        self.fresh = False
        samples, self.samples = self.samples, 0
        return samples

    def close(self) -> None:
        """Take the hooks off."""
        for handle in (*self.parts, self.root):
            handle.remove()


def _hook(module: nn.Module, act: Callable[..., None]) -> Any:
    return module.register_forward_pre_hook(Hook(act), with_kwargs=True)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    for part in module.children():
        if isinstance(part, HELD):
            yield from _parts(part)
        elif not isinstance(part, torch.jit.ScriptModule):  # it takes no hooks
            yield part


def _samples(args: Any, leaves: Any) -> int:
    packed = next((a for a in args if isinstance(a, PackedSequence)), None)
    if packed is not None:
        return int(packed.batch_sizes[0])
    return len(leaves[0]) if leaves and leaves[0].ndim else 1
