"""A training loop listened to: one log per measured step."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.survey.batches import Batch
from plumbob.survey.modules import module_sites
from plumbob.survey.optimizer import each
from plumbob.survey.stream.marks import Marks
from plumbob.survey.stream.modes import Modes
from plumbob.survey.stream.several import roots
from plumbob.survey.stream.taken import Taken
from plumbob.survey.stream.units import Taps
from plumbob.survey.stream.unsaved import Hook
from plumbob.types import Log, Window


class Stream:
    """Hooks on a model and its optimisers; calls `on_log` once per measured step.

    The clock is the optimiser's step, or `step` where there is none.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        *,
        every: int = 50,
        burst: int = 5,
        on_log: Callable[[Log], None],
    ) -> None:
        self.model = model
        self.optimizers = list(each(optimizer)) if optimizer is not None else []
        self.every, self.burst = every, burst
        self.on_log = on_log
        self.sites = module_sites(model)
        self.taps = Taps(model, self.sites)
        self.marks = Marks(model)
        self.taken = 0
        self.began = time.perf_counter()
        self.first: Batch | None = None
        self.losses: dict[str, list[tuple[int, float]]] = {}
        self.held: list[tuple[int, float]] = []
        self.samples = 0
        self.modes = Modes(model)
        self.ready: tuple[dict[str, Any], Taken] | None = None
        self.deaf = False
        self.handles: list[Any] = [
            root.register_forward_pre_hook(Hook(self._called), with_kwargs=True)
            for root in roots(model).values()
        ]
        for one in self.optimizers:
            self.handles += [
                one.register_step_pre_hook(self._before),
                one.register_step_post_hook(self._after),
            ]
        self.taps.open(self.due)

    @property
    def due(self) -> bool:
        """Whether the step to come is measured."""
        return self.taken < self.burst or self.taken % self.every == 0

    @contextmanager
    def asleep(self) -> Generator[None, None, None]:
        """Take nothing that runs meanwhile for a part of the training."""
        self.deaf = True
        self.taps.open(False)
        try:
            yield
        finally:
            self.deaf = False
            self.taps.open(self.due)

    def _called(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self.deaf:
            return
        grad = torch.is_grad_enabled()
        self.modes.called(module, (*args, *kwargs.values()))
        leaves = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        if grad and leaves:
            self.samples = len(leaves[0])
            if self.first is None:
                self.first = Batch(args=args, kwargs=kwargs, samples=self.samples)
        self._emit()

    def _before(self, optimizer: Any, *_: Any) -> None:
        if self.due:
            self.marks.look(optimizer)

    def _after(self, optimizer: Any, *_: Any) -> None:
        if self.due:
            self.marks.compare(optimizer)
        if optimizer is self.optimizers[-1]:
            self._tick()

    def _tick(self) -> None:
        self.modes.stepped()
        if self.due:
            self.ready = (self.marks.collect(), self.taps.collect(self.samples))
        self.taken += 1
        self.taps.open(self.due)

    def loss(self, value: Any, name: str = "loss") -> None:
        """Note the loss of the step that has just been taken."""
        found = float(value.detach() if isinstance(value, Tensor) else value)
        self.losses.setdefault(name, []).append((max(0, self.taken - 1), found))

    def validation(self, value: Any) -> None:
        """Note a loss on held-out data."""
        found = float(value.detach() if isinstance(value, Tensor) else value)
        self.held.append((self.taken, found))

    def step(self, loss: Any = None) -> None:
        """Say that a step is over, and what its loss was."""
        if not self.optimizers:
            self._tick()
        if loss is not None:
            self.loss(loss)
        self._emit()

    def _emit(self) -> None:
        if self.ready is None:
            return
        marks, units = self.ready
        self.ready = None
        parameters = dict(self.model.named_parameters())
        biases = {site.name: site.bias for site in self.sites}
        now = self.taken - 1
        log = Log(
            step=now,
            seconds=time.perf_counter() - self.began,
            losses={name: tuple(some) for name, some in self.losses.items()},
            held=tuple(self.held),
            marks=marks,
            windows={
                name: Window(
                    first=now,
                    last=now,
                    z=z,
                    samples=samples,
                    saturated=beyond,
                    bias=parameters[bias].detach().double().cpu().numpy()
                    if (bias := biases[name])
                    else None,
                )
                for name, (z, samples, beyond) in units.read().items()
            },
            samples=self.samples,
            passes=self.modes.passes(),
        )
        self.losses, self.held = {}, []
        self.on_log(log)

    def close(self) -> None:
        """Emit what waits, and leave the model and the optimisers as they were."""
        self._emit()
        self.taps.close()
        for handle in self.handles:
            handle.remove()
