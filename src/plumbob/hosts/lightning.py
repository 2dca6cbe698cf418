"""A Lightning `Trainer` watched: a callback."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from plumbob.survey.optimizer import each
from plumbob.survey.stream.unsaved import Hook
from plumbob.verbs.watch import watch
from plumbob.watching.watch import Watch

CONTAINERS = (nn.ModuleList, nn.ModuleDict)


class Watcher(Callback):
    """Watches what a trainer fits, from before the first batch to the end.

    Why:
        Lightning never calls the LightningModule itself but its `training_step`. Where
        all parameters lie in one module that this holds, that module is watched, so
        that its calls are seen; else the LightningModule is, without a graph.

    The losses are those that gradients are taken of, summed over the batches that are
    accumulated (Lightning divides each), one series for each optimiser.

    Args:
        held: the name under which the validation loss is logged; by default the one
            name with both "val" and "loss" in it.
        options: those of `plumbob.watch`.

    Example:
        >>> callback = Watcher(every=10)  # Trainer(callbacks=[callback])
        >>> callback.watch is None  # until the fit starts
        True
    """

    def __init__(self, *, held: str | None = None, **options: Any) -> None:
        self.held, self.options = held, options
        self.watch: Watch | None = None
        self.pending: Tensor | None = None
        self.due: Tensor | None = None
        self.handles: list[Any] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach, before the sanity check calls or compiles anything."""
        optimizers = list(each(trainer.optimizers))
        self.pending = self.due = None
        watched = self.watch = watch(_core(pl_module), optimizers, **self.options)
        watched.ledger.told(None)
        watched.ledger.held_told()
        rivals = len(optimizers) > 1
        for number, optimizer in enumerate(optimizers, 1):
            name = f"optimizer {number}" if rivals else "loss"
            hook = Hook(self._after(watched, name))
            self.handles.append(optimizer.register_step_post_hook(hook))

    def _after(self, watched: Watch, name: str) -> Any:
        def note(*_: Any) -> None:
            if self.due is not None:
                watched.note(self.due, name)
                self.due = None

        return note

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Note the loss, as it was before it was scaled."""
        value = loss.detach()
        if (scaler := getattr(trainer.precision_plugin, "scaler", None)) is not None:
            value = value / scaler.get_scale()
        self.pending = value if self.pending is None else self.pending + value

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        """Tell the losses of this step from those of the next; it may be skipped."""
        self.due, self.pending = self.pending, None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Say that a step is over."""
        if self.watch is not None:
            self.watch.step()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the validation loss, if it was logged."""
        if trainer.sanity_checking or self.watch is None:
            return
        metrics = trainer.callback_metrics
        held = self.held or _only(n for n in metrics if "val" in n and "loss" in n)
        if held in metrics:
            self.watch.validate(metrics[held])

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let go of a training that has failed, and note why."""
        self._close(exception)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge a last time."""
        self._close()

    def _close(self, error: BaseException | None = None) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        if self.watch is not None:
            self.watch.__exit__(None if error is None else type(error), error, None)


def _core(module: nn.Module) -> nn.Module:
    """Return the one module in it that holds all of its parameters, if there is one."""
    own = next(module.parameters(recurse=False), None)
    parts = [m for m in module.children() if next(m.parameters(), None) is not None]
    if own is None and len(parts) == 1 and not isinstance(parts[0], CONTAINERS):
        return parts[0]
    return module


def _only(names: Any) -> str | None:
    found = list(names)
    return found[0] if len(found) == 1 else None
