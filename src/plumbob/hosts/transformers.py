"""A Hugging Face `Trainer` watched: a callback."""

from collections.abc import Mapping
from math import isclose, isfinite
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from plumbob.survey.stream.unsaved import Hook
from plumbob.verbs.watch import watch
from plumbob.watching.outlets import say
from plumbob.watching.watch import Watch


class Watcher(TrainerCallback):
    """Watches what a Trainer trains, from before the first batch to the end.

    The loss of each step is the one in the model's outputs, as gradients are taken of
    it: over batches that are accumulated it is summed where the model divides by the
    number of items of the whole step, else averaged. Where outputs hold no loss and
    where the model is compiled (a hook of ours could break its graph), the logged ones
    are noted; where the Trainer logs others, these are a series of their own, and no
    rule judges by the loss. Nothing is returned to the Trainer.

    Args:
        options: those of `plumbob.watch`.

    Example:
        >>> callback = Watcher(every=10)  # Trainer(..., callbacks=[callback])
        >>> callback.watch is None  # until the training begins
        True
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.watch: Watch | None = None
        self.pending: list[Tensor] = []
        self.summed = False
        self.due: Tensor | None = None
        self.noted: list[Tensor] = []  # since the last log
        self.name = "loss"
        self.held: str | None = None
        self.handles: list[Any] = []

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module,
        optimizer: Any,
        **kwargs: Any,
    ) -> None:
        """Attach; Accelerate's optimiser holds the one that steps."""
        self.close()  # of a training that has failed
        inner = getattr(optimizer, "optimizer", optimizer)
        self.pending, self.noted, self.due, self.name = [], [], None, "loss"
        self.watch = watch(model, inner, **self.options)
        # it cannot know by what a loss is divided, or of which set it is
        self.watch.ledger.told(None)
        self.watch.ledger.held_told()
        self.handles = [inner.register_step_post_hook(Hook(self._after))]
        if not args.torch_compile:
            self.handles.append(
                model.register_forward_hook(Hook(self._called), with_kwargs=True)
            )

    def _called(
        self, model: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any
    ) -> None:
        asleep = self.watch is None or self.watch.feed.asleep
        if asleep or not model.training or not torch.is_grad_enabled():
            return
        first = output.get("loss") if isinstance(output, Mapping) else output
        loss = first[0] if isinstance(first, tuple) and first else first
        if isinstance(loss, Tensor) and loss.numel() == 1:
            self.pending.append(loss.detach())
            self.summed = kwargs.get("num_items_in_batch") is not None

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Tell the losses of this step from those of the next; it may be skipped."""
        if self.pending:
            losses = torch.stack(self.pending)
            self.due = losses.sum() if self.summed else losses.mean()
            self.pending = []

    def _after(self, *_: Any) -> None:
        if self.due is not None and self.watch is not None:
            self.watch.note(self.due)
            self.noted.append(self.due)
            self.due = None

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Say that a step is over."""
        if self.watch is not None:
            self.watch.step()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        logs: Mapping[str, float],
        **kwargs: Any,
    ) -> None:
        """Note the logged loss where no other is known, or another than this."""
        if self.watch is None or "loss" not in logs:
            return
        if not self.noted:
            self.watch.note(logs["loss"], self.name)
            return
        mean = float(torch.stack(self.noted).mean())
        self.noted = []
        if isfinite(mean) and not isclose(mean, logs["loss"], rel_tol=0.01):
            self.handles.pop().remove()
            # losses of two kinds in one series would look like a jump
            self.name = "logged loss"
            say(
                f"the model's outputs give a mean loss of {mean:.4g}, the Trainer logs "
                f"{logs['loss']:.4g}: the logged ones are noted from here on, by "
                "themselves, and no rule judges by the loss"
            )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        metrics: Mapping[str, float],
        **kwargs: Any,
    ) -> None:
        """Note the validation loss; of several sets that of the first."""
        names = [name for name in metrics if name.endswith("_loss")]
        self.held = self.held or next(iter(names), None)
        if self.watch is not None and self.held is not None and self.held in metrics:
            self.watch.validate(metrics[self.held])

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Judge a last time."""
        self.close()

    def close(self) -> None:
        """Judge a last time, and take all hooks off; needed where a training fails."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        if self.watch is not None:
            self.watch.close()
