"""The user's loss at outputs of one's own choice, laid out sample, unit, position."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree

from plumbob.survey.outcome import Asked, NotMeasuredError, again, has_rows

_ROWS = 256  # samples that are asked about
_NUMBERS = 1 << 18  # of the outputs, at most, where two samples have no more
_MOST = 1 << 22  # of two samples
Laid = Float[Tensor, "samples units positions"]


@dataclass(frozen=True)
class Point:
    """The loss and its slope; NaN where it cannot be taken."""

    value: float
    slope: Laid


@dataclass(frozen=True)
class LossAt:
    """A loss as a function of the one part of the output that it reads."""

    ask: Asked
    part: int
    axis: int  # of the units in that part
    given: Laid
    rows_of: tuple[Tensor, int]  # which samples, of how many
    close: float  # relative error of its values

    @classmethod
    def of(cls, loss: Callable[..., Any], outputs: Any, targets: Any) -> "LossAt":
        """Take some samples of outputs and targets, spread over all.

        Raises:
            NotMeasuredError: they have no rows, or the loss reads several parts or
                none, is too large, or gives two values for the same outputs.
        """
        aims: list[Any] = pytree.tree_leaves(targets)
        first = aims[0] if aims else None
        samples = len(first) if isinstance(first, Tensor) and first.ndim else 0
        if not samples or not all(has_rows(t, samples) for t in aims):
            raise NotMeasuredError(
                "the targets are not tensors with one row for each sample"
            )
        read = Asked.of(loss, outputs, targets, samples)
        parts = read.read()
        if len(parts) != 1:
            raise NotMeasuredError(f"the loss reads {len(parts)} parts of the output")
        wide = max(1, read.parts[parts[0]][:1].numel())
        kept = min(samples, _ROWS, max(2, _NUMBERS // wide))
        if kept < 2 or 2 * wide > _MOST:
            raise NotMeasuredError(
                f"{samples} samples with {wide} outputs each: too few, or too many"
            )
        rows = torch.linspace(0, samples - 1, kept).long()
        ask = replace(
            read,
            parts=[_some(part, rows, samples) for part in read.parts],
            targets=[_some(t, rows, samples) for t in read.targets],
        )
        return cls._precise(ask, parts[0], (rows, samples))

    @classmethod
    def _precise(cls, ask: Asked, part: int, rows_of: tuple[Tensor, int]) -> "LossAt":
        """Take the loss in float64, unless it refuses that.

        Raises:
            NotMeasuredError: it refuses float32 too, or gives two values.
        """
        why = ""
        outputs = ask.parts[part]
        axis = units_axis(outputs, ask.targets)
        for dtype, close in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            given = outputs.to(dtype)
            given = given[:, None] if given.ndim == 1 else given.movedim(axis, 1)
            laid = given.reshape(*given.shape[:2], -1)
            at = cls(ask.in_precision(dtype), part, axis, laid, rows_of, close)
            try:
                values = [at._take(laid).value for _ in range(2)]
            except NotMeasuredError:
                raise
            except Exception as error:  # the user's own code may raise anything
                why = again(error)
                continue
            if math.isfinite(values[0]) and values[0] != values[1]:
                raise NotMeasuredError("the loss gives two values for the same outputs")
            return at
        raise NotMeasuredError(why)

    def __call__(self, outputs: Laid, times: int = 1) -> Point:
        """Return loss and slope; NaN where the loss refuses such outputs."""
        try:
            return self._take(outputs, times)
        except Exception:  # a loss may refuse outputs that the model does not give
            return Point(math.nan, torch.full_like(outputs, math.nan))

    def aimed(self, targets: Sequence[Tensor]) -> "LossAt":
        """Return the same with other targets."""
        return replace(self, ask=replace(self.ask, targets=list(targets)))

    def rows(self, z: Tensor) -> Tensor | None:
        """Return the rows of z of these samples, whose positions may be rows too."""
        rows, samples = self.rows_of
        if len(z) % samples:
            return None
        z = z if len(z) == samples else z.reshape(samples, -1, *z.shape[1:])
        return z.detach()[rows.to(z.device)]

    @property
    def aims(self) -> list[Tensor]:
        """The targets, leaf by leaf."""
        return self.ask.targets

    @property
    def shape(self) -> torch.Size:
        """The shape of the outputs as the loss reads them."""
        return self.ask.parts[self.part].shape

    def same(self, one: float, two: float) -> bool:
        """Say whether two values of the loss agree but for rounding."""
        return math.isclose(one, two, rel_tol=self.close)

    def _take(self, laid: Laid, times: int = 1) -> Point:
        with torch.enable_grad():
            leaf = laid.detach().clone().requires_grad_()
            shape = self.shape
            if len(shape) == 1:
                made = leaf.reshape(len(leaf))
            else:
                turned = torch.empty(shape, device="meta").movedim(self.axis, 1).shape
                made = leaf.reshape(len(leaf), *turned[1:]).movedim(1, self.axis)
            value = self.ask.value({self.part: made}, times)
            slope: Any = None
            if value.requires_grad:
                (slope,) = torch.autograd.grad(value, leaf, allow_unused=True)
        slope = torch.zeros_like(laid) if slope is None else slope.detach()
        return Point(float(value.detach()), slope)


def units_axis(outputs: Tensor, targets: Sequence[Tensor]) -> int:
    """Return the axis of an output's units, by the shape of the targets."""
    if outputs.ndim < 3:
        return -1
    aim = targets[0]
    if len(targets) == 1 and aim.shape == outputs.shape[:-1]:
        return -1
    if len(targets) == 1 and aim.shape == (len(outputs), *outputs.shape[2:]):
        return 1
    return 1 if outputs.ndim > 3 else -1


def _some(part: Any, rows: Tensor, samples: int) -> Any:
    if not has_rows(part, samples):
        return part
    return part.detach()[rows.to(part.device)]
