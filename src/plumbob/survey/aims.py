"""Targets, read once: what the best constant of an output is held against."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plumbob.errors import InputError, one_line


@dataclass(frozen=True, slots=True)
class Aim:
    """The targets of N samples for an output (N, units, ...), on the CPU.

    `y` is (N, ...) where it holds the numbers of `classes`, else (N, units, ...), or
    (N,) for one unit; `weight` is (N,).
    """

    y: Tensor
    units: int
    classes: bool
    weight: Float[Tensor, " samples"] | None

    def rows(self) -> tuple[Tensor, Float[Tensor, " rows"] | None]:
        """Return class numbers (rows,) or float64 (rows, units), and their weights."""
        y = self.y.flatten()
        if not self.classes:
            y = self.y.movedim(1, -1) if self.y.ndim > 2 else self.y
            y = y.double().reshape(-1, self.units)
        if self.weight is None:
            return y, None
        return y, self.weight.repeat_interleave(len(y) // len(self.weight))

    def fits(self) -> bool:
        """Say whether there is a target for each unit, or a class."""
        width = self.y.shape[1] if self.y.ndim > 1 else 1
        return self.classes or width == self.units

    def zeros(self) -> Float[Tensor, "samples ..."]:
        """Return an output of 0 for these targets; (N,) where they are."""
        n, y = len(self.y), self.y
        if y.ndim == 1 and self.units == 1 and not self.classes:
            shape = (n,)
        elif self.classes or (not y.is_floating_point() and not self.fits()):
            shape = (n, self.units, *y.shape[1:])
        else:
            shape = (n, self.units, *y.shape[2:])
        return torch.zeros(shape, dtype=torch.float64)


def read_aim(
    targets: Any,
    *,
    classes: bool,
    ignore: int | None = None,
    units: int | None = None,
    weight: Any = None,
) -> Aim:
    """Read targets and the weights of their samples.

    Args:
        targets: a tensor or what becomes one.
        classes: whole numbers are those of classes.
        ignore: what is no class.
        units: of the output; by default as many as the targets tell.
        weight: of each sample.

    Raises:
        InputError: they are empty, not finite, or do not belong together.
    """
    y = _tensor(targets, "targets")
    if not y.ndim or not y.numel():
        raise InputError(
            f"expected targets of at least one sample, got {list(y.shape)}; pass those "
            "of the training data"
        )
    classes = classes and not y.is_floating_point()
    kept = y[y != ignore] if classes and ignore is not None else y
    if not kept.numel():
        raise InputError(
            f"expected targets that count, got {list(y.shape)} which are all {ignore}, "
            "the ignore_index; pass others"
        )
    if units is None and classes:
        units = int(kept.max()) + 1
    if units is None:
        units = y.shape[1] if y.ndim > 1 else 1
    return Aim(y, units, classes, None if weight is None else _weights(weight, len(y)))


def _weights(given: Any, samples: int) -> Tensor:
    w = _tensor(given, "weights").double()
    if w.shape != (samples,) or float(w.min()) < 0 or not w.sum():
        raise InputError(
            f"expected a weight of 0 or more for each of {samples} samples, not all 0, "
            f"got {list(w.shape)}; pass one number per sample"
        )
    return w


def _tensor(given: Any, what: str) -> Tensor:
    try:
        t = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"expected {what} as a tensor or an array of numbers, got "
            f"{type(given).__name__}: {one_line(error)}; pass one tensor"
        ) from error
    if t.is_complex() or (t.is_floating_point() and not bool(t.isfinite().all())):
        raise InputError(
            f"expected finite {what}, got nan, inf or complex numbers in "
            f"{list(t.shape)}; leave those samples out"
        )
    return t
