"""Whether the runs of one seed were given the same, as a comparison in pairs needs."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from plumbob.errors import InputError
from plumbob.survey.graph import tensors
from plumbob.trials.record import Run

READ = 1 << 9  # values of each tensor, evenly over it: time is for the training


class Print:
    """A fingerprint of the weights and batches that a run is given.

    Example:
        >>> one, two = Print(), Print()
        >>> for given in (one, two):
        ...     given.add(torch.ones(3))
        ...     given.mark()
        >>> one.marks == two.marks
        True
    """

    def __init__(self) -> None:
        self.hash = blake2b(digest_size=8)
        self.marks: list[str] = []

    def mark(self) -> None:
        """Keep what was given so far: a run that diverges is given less."""
        self.marks.append(self.hash.hexdigest())

    def model(self, model: nn.Module) -> None:
        """Add parameters and buffers."""
        self.add([*model.parameters(), *model.buffers()])

    def batches(self, items: Iterable[Any]) -> Iterator[Any]:
        """Add each batch as it is fed."""
        for item in items:
            self.add(item)
            yield item

    def add(self, values: Any) -> None:
        """Add the tensors in nested values; of no dense ones the shape."""
        for tensor in tensors(values):
            if is_lazy(tensor):
                continue
            self.hash.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
            if tensor.layout == torch.strided and not tensor.is_nested:
                self.hash.update(_bytes(tensor))


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().flatten()
    few = flat[:: max(1, len(flat) // READ)].cpu().contiguous()
    return few.view(torch.uint8).numpy().tobytes() if len(few) else b""


def check_paired(run: Run, others: Iterable[Run]) -> None:
    """Check that a run was given what the others of its seed were.

    Raises:
        InputError: it was not.
    """
    for other in others:
        if other.seed == run.seed and any(
            a != b for a, b in zip(run.given, other.given, strict=False)
        ):
            raise InputError(
                f"the runs '{other.arm}' and '{run.arm}' of seed {run.seed} were not "
                "given the same weights and batches, so that they are not paired: data "
                "or build draw from a generator of their own; pass functions that make "
                "them with their generators, for build and for data"
            )
