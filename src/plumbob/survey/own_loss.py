"""The loss that a model takes itself, recognised by its values."""

from collections.abc import Callable
from functools import partial
from math import isclose
from typing import Any

from torch import Tensor
from torch.nn import functional

from plumbob.survey.batches import Batch

_PLAIN = 1e-3  # deviation of logits below which weights and smoothing do not show


class OwnLoss:
    """Finds one function of `logits` and `labels` that gives the loss of all batches.

    Why:
        A model that is given labels and returns its loss cannot be asked for that of
        shifted outputs without running it again. Hugging Face's classifiers take
        one of three; which one is seen by the value, to 1e-5, so that class weights,
        smoothing, shifted labels and further terms fit none.
    """

    def __init__(self) -> None:
        self.fits: list[Callable[..., Tensor]] = list(_LOSSES)

    def targets(self, output: Any, batch: Batch, value: float | None) -> Any:
        """Return a batch's labels; forget the losses that do not give its value."""
        logits, labels = getattr(output, "logits", None), batch.kwargs.get("labels")
        if not isinstance(logits, Tensor) or not isinstance(labels, Tensor):
            self.fits = []
            return None
        self.fits = [loss for loss in self.fits if _is(loss, logits, labels, value)]
        return labels

    def found(self) -> Callable[[Any, Any], Tensor] | None:
        """Return it as a loss of the model's output and the labels."""
        if len(self.fits) != 1:
            return None
        return partial(_of_logits, loss=self.fits[0])


def _of_logits(output: Any, labels: Tensor, *, loss: Callable[..., Tensor]) -> Tensor:
    return loss(output.logits, labels)


def _classes(z: Tensor, y: Tensor) -> Tensor:
    if z.shape[:-1] != y.shape or y.is_floating_point():
        raise ValueError("no number of a class for each row")
    return functional.cross_entropy(z.flatten(0, -2), y.flatten())


def _labels(z: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(z, y)


def _numbers(z: Tensor, y: Tensor) -> Tensor:
    return functional.mse_loss(z.reshape(y.shape), y)


_LOSSES = (_classes, _labels, _numbers)


def _is(
    loss: Callable[..., Tensor], logits: Tensor, labels: Tensor, value: float | None
) -> bool:
    """Say whether it gives the value, on logits that would show what else is in it."""
    z = logits.detach()
    if value is None or not z.numel() or float(z.std()) < _PLAIN:
        return False
    try:
        given = float(loss(z, labels))
    except (RuntimeError, ValueError, IndexError):  # not made for such labels
        return False
    return isclose(given, value, rel_tol=1e-5)
