"""What a training loop feeds its model: the first batch, the last, a broken output."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from plumbob.survey.batches import Batch
from plumbob.survey.graph import tensors
from plumbob.survey.quiet import aside
from plumbob.survey.stream.unsaved import Hook

FIRST = 64 * 2**20  # bytes of the first batch that are copied, of all first ones
ENOUGH = 512  # samples of first batches, on which a best constant is well known
BATCHES = 16


class Feed:
    """Told of each pass of the models that a loop calls; deaf while `asleep`.

    `first` are copies of what the first calls in training got, of the very first its
    first samples where it is large; `latest` is what the last one got, with the model
    it went to.
    `on_loss` is called with a loss that a model returns within its output, and `safely`
    with all that is done here. With `aims` targets of the calls will be told.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        on_loss: Callable[[Tensor], None],
        safely: Callable[..., None],
        *,
        aims: bool,
    ) -> None:
        self.on_loss, self.aims = on_loss, aims
        self.asleep = False
        self.first: list[Batch] = []
        self.full = False  # no more are kept
        self.aimless = False  # the last of them has no targets yet
        self.given: list[tuple[int, int, torch.dtype]] = []  # what came of it
        self.last: tuple[nn.Module, Any, Any] | None = None
        self.targets: Any = None  # of the last call
        self.safely = safely
        gave = Hook(partial(safely, self._gave))
        self.handles = {
            id(model): model.register_forward_hook(gave) for model in models.values()
        }

    def called(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        """Note what a model gets in a pass with gradients."""
        if self.asleep or id(model) not in self.handles:
            return
        self.last, self.targets = (model, args, kwargs), None
        if not self.full:
            self.safely(self._keep, args, kwargs)

    @property
    def latest(self) -> tuple[nn.Module, Batch] | None:
        """What the last call got, and the model it went to."""
        if self.last is None:
            return None
        model, args, kwargs = self.last
        return model, _with(_batch(args, kwargs), self.targets)

    def _keep(self, args: Any, kwargs: Any) -> None:
        batch, self.aimless = _batch(args, kwargs), False
        kept = copied(batch)
        if kept is not None:
            self.first.append(kept)
            self.aimless = self.aims
        samples = sum(one.samples for one in self.first)
        self.full = (
            kept is None
            or kept.samples < batch.samples
            or samples >= ENOUGH
            or len(self.first) >= BATCHES
            or sum(map(_size, self.first)) + _size(kept) > FIRST
        )

    def _gave(self, model: nn.Module, args: Any, output: Any) -> None:
        if aside() or self.asleep:
            return
        if self.aimless:
            self.given = [(_origin(t), t.numel(), t.dtype) for t in tensors(output)]
        if isinstance(output, Tensor):
            if self.full and not self.aimless and torch.is_grad_enabled():
                self.handles[id(model)].remove()  # its output will hold no loss
            return
        value = _loss(output)
        if value is not None:
            self.on_loss(value)

    def aim(self, outputs: Any, targets: Any) -> None:
        """Note the targets of the last call, if the loss is of what that gave."""
        if self.last is None:
            return
        if self.targets is None:
            self.targets = targets
        if self.aimless:
            self.aimless = False
            if not self._given(outputs):
                return
            samples = _batch(*self.last[1:]).samples
            kept = _rows(targets, samples, self.first[-1].samples)
            self.first[-1] = _with(self.first[-1], _copy(kept))

    def _given(self, outputs: Any) -> bool:
        """Say whether the model returned these, or views of them, or a cast of them."""
        found = [(_origin(t), t.numel(), t.dtype) for t in tensors(outputs)]
        return bool(found) and all(
            any(n == m and (a == b or k != d) for b, m, d in self.given)
            for a, n, k in found
        )

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self.handles.values():
            handle.remove()


def copied(batch: Batch) -> Batch | None:
    """Return a copy of a batch, of its first samples if it is large; None: too large.

    It is where the axis of the samples is not clear.
    """
    size = _size(batch)
    if size > FIRST:
        few = batch.few(max(1, batch.samples * FIRST // size))
        if few is batch:
            return None
        batch = few
    args, kwargs = _copy((batch.args, dict(batch.kwargs)))
    return Batch(args=args, kwargs=kwargs, samples=batch.samples)


def _batch(args: Any, kwargs: Any) -> Batch:
    leaf = next(tensors((args, kwargs)), None)
    samples = len(leaf) if leaf is not None and leaf.ndim else 1
    return Batch(args=args, kwargs=kwargs, samples=samples)


def _size(batch: Batch) -> int:
    return sum(t.nbytes for t in tensors((batch.args, dict(batch.kwargs))))


def _with(batch: Batch, targets: Any) -> Batch:
    return Batch(
        args=batch.args, kwargs=batch.kwargs, targets=targets, samples=batch.samples
    )


def _copy(parts: Any) -> Any:
    return pytree.tree_map_only(Tensor, lambda t: t.detach().clone(), parts)


def _origin(t: Tensor) -> int:
    """Return what a tensor and its views have in common."""
    return id(t if t._base is None else t._base)


def _rows(targets: Any, samples: int, kept: int) -> Any:
    def cut(t: Tensor) -> Tensor:
        return t[:kept] if t.ndim and len(t) == samples else t

    return pytree.tree_map_only(Tensor, cut, targets)


def _loss(output: Any) -> Tensor | None:
    """Return the loss that a model puts into its output."""
    if isinstance(output, (Tensor, tuple, list)):
        return None
    value = output.get("loss") if isinstance(output, Mapping) else None
    value = getattr(output, "loss", None) if value is None else value
    return value if isinstance(value, Tensor) and value.numel() == 1 else None
