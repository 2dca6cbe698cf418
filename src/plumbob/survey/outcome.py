"""What a model gave and what was wanted of all batches, to ask the loss again."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from plumbob.types import Site

RECORD = 4_000_000  # elements of outputs that are kept

Kept = tuple[Any, Any, Mapping[str, Tensor]]


class Apart:
    """Stands in an output for what has no row for each sample, as a mean or a cache.

    That of one batch is not that of shifted outputs, so a loss that uses it fails;
    one that does not can be asked again.
    """

    def __bool__(self) -> bool:
        """Refuse, as all other uses of an object without methods do.

        Raises:
            TypeError: always.
        """
        raise TypeError("it reads a part of the output without a row for each sample")


def heads(sites: Iterable[Site]) -> list[Site]:
    """Return the maps that give the output; those that others read only if all are."""
    found = [site for site in sites if site.is_output]
    return [site for site in found if not site.feeds] or found


class Record:
    """Outputs, targets and the net inputs of `heads` of the batches of one form."""

    def __init__(self) -> None:
        self.kept: list[list[Any]] = []
        self.form: Any = None
        self.size = 0

    def add(self, outputs: Any, targets: Any, z: Mapping[str, list[Tensor]]) -> None:
        """Keep a batch's, if there is room and it has the form of those before."""
        if self.size >= RECORD:
            return
        once = {name: parts[0] for name, parts in z.items() if len(parts) == 1}
        leaves, tree = pytree.tree_flatten((outputs, targets, once))
        form = (tree, list(map(_form, leaves)))
        if self.kept and form != self.form:
            return
        self.form = form
        self.kept.append([t.detach() if isinstance(t, Tensor) else t for t in leaves])
        given = pytree.tree_leaves(outputs)
        self.size += sum(t.numel() for t in given if isinstance(t, Tensor))

    def value(self) -> Kept:
        """Return outputs, targets and net inputs of all batches kept."""
        if not self.kept:
            return None, None, {}
        columns = [_join(list(column)) for column in zip(*self.kept, strict=True)]
        return pytree.tree_unflatten(columns, self.form[0])


def _join(parts: list[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor) and first.ndim and first.layout is torch.strided:
        return torch.cat(parts)
    plain = isinstance(first, (bool, int, float, str, type(None)))
    return first if plain and all(part == first for part in parts) else Apart()


def _form(leaf: Any) -> Any:
    return (leaf.shape[1:], leaf.dtype) if isinstance(leaf, Tensor) else None


class NotMeasuredError(Exception):
    """Why there are no facts about the output."""


@dataclass(frozen=True)
class Asked:
    """A loss with the leaves of the outputs and of the targets that it is given."""

    loss: Callable[..., Any]
    parts: list[Any]
    targets: list[Tensor]
    form: tuple[Any, Any]

    @classmethod
    def of(
        cls, loss: Callable[..., Any], outputs: Any, targets: Any, samples: int
    ) -> "Asked":
        """Take outputs and targets apart."""
        parts, form = pytree.tree_flatten(outputs)
        aims, form_of_aims = pytree.tree_flatten(targets)
        held = [
            part if has_rows(part, samples) or not isinstance(part, Tensor) else Apart()
            for part in parts
        ]
        return cls(loss, held, aims, (form, form_of_aims))

    def first(self, samples: int) -> "Asked":
        """Return the same for the first samples alone."""
        parts, targets = (
            [t[:samples].detach() if isinstance(t, Tensor) else t for t in leaves]
            for leaves in (self.parts, self.targets)
        )
        return replace(self, parts=parts, targets=targets)

    def in_precision(self, dtype: torch.dtype) -> "Asked":
        """Return the same with targets of a dtype where they are numbers."""
        cast = [t.to(dtype) if t.is_floating_point() else t for t in self.targets]
        return replace(self, targets=cast)

    def read(self) -> list[int]:
        """Return the places of the parts that the loss reads.

        Raises:
            NotMeasuredError: there are none, or the loss cannot be taken.
        """
        parts = enumerate(self.parts)
        numbers = {
            i: part.detach().clone().requires_grad_()
            for i, part in parts
            if isinstance(part, Tensor) and part.is_floating_point()
        }
        if not numbers:
            raise NotMeasuredError(
                "no part of the model's output is numbers with one row for each sample"
            )
        if len(numbers) == 1:
            return list(numbers)
        try:
            with torch.enable_grad():
                value = self.value({i: part.clone() for i, part in numbers.items()})
                wanted = list(numbers.values())
                slopes: Any = torch.autograd.grad(value, wanted, allow_unused=True)
        except NotMeasuredError:
            raise
        except Exception as error:  # the user's own code may raise anything
            raise NotMeasuredError(again(error)) from error
        return [i for i, s in zip(numbers, slopes, strict=True) if s is not None]

    def value(self, made: Mapping[int, Tensor], times: int = 1) -> Tensor:
        """Return the loss where some parts are others, all repeated so many times.

        Raises:
            NotMeasuredError: it is not one number.
        """
        parts: list[Any] = [made.get(i, part) for i, part in enumerate(self.parts)]
        leaves = [
            torch.cat([part] * times) if isinstance(part, Tensor) else part
            for part in (*parts, *self.targets)
        ]
        n, (form, form_of_aims) = len(parts), self.form
        outputs = pytree.tree_unflatten(leaves[:n], form)
        value = self.loss(outputs, pytree.tree_unflatten(leaves[n:], form_of_aims))
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise NotMeasuredError("the loss is not one number")
        return value.reshape(())


def has_rows(part: Any, samples: int) -> bool:
    """Say whether it is a tensor with a row for each sample."""
    return isinstance(part, Tensor) and part.ndim > 0 and len(part) == samples


def again(error: Exception) -> str:
    """Say that the user's loss failed where it is taken again."""
    why = str(error).partition("\n")[0] or type(error).__name__
    return f"the loss cannot be taken again on shifted outputs: {why}"
