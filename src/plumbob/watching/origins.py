"""What first made a value of a training not finite."""

from collections.abc import Callable
from math import inf, isfinite
from typing import Any

from torch import Tensor, nn

from plumbob.survey.batches import Batch
from plumbob.survey.breaks import first_break
from plumbob.survey.stream.several import bare, spread
from plumbob.types import Break, Log

SEARCHES = 3
WHERE = "the origin of what is not finite"
LATE = (
    "it was seen after a step had spoilt the weights; give the loss: "
    "plumbob.watch(..., loss=)"
)
SPREAD = "a pass of the model waits for other ranks"


class Origins:
    """Runs a batch again on which something was not finite; a few times at most.

    `found` is the origin, `suspect` the batch that is still to be looked at, with the
    model that it went to.
    """

    def __init__(self) -> None:
        self.suspect: tuple[nn.Module, Batch] | None = None
        self.found: Break | None = None
        self.unseen: dict[str, str] = {}
        self.left = SEARCHES

    def suspects(self, fed: tuple[nn.Module, Batch] | None) -> None:
        """Note the batch that is at work, if none is noted yet."""
        if self.found is None and self.left and self.suspect is None:
            self.suspect = fed

    def search(self, loss: Callable[..., Any] | None, *, late: bool = False) -> None:
        """Look at it: before its step has spoilt the weights, or `late`."""
        if self.suspect is None:
            return
        (model, batch), self.suspect = self.suspect, None
        self.left -= 1
        model = bare(model)  # what spreads it over ranks waits for them
        if spread(model):
            self.unseen[WHERE] = SPREAD
            return
        found = first_break(model, batch, None if batch.targets is None else loss)
        if late and (found is None or found.cause == "weight"):
            self.unseen[WHERE] = LATE
        else:
            self.found = found


def broken(value: Tensor) -> bool:
    """Say whether a loss is not finite; waits for its device."""
    return not isfinite(float(value.detach()))


def spoilt(log: Log) -> bool:
    """Say whether a loss, a gradient or a weight is not finite."""
    losses = (v for some in log.losses.values() for _, v in some)
    marks = log.marks.values()
    return (
        not all(map(isfinite, losses))
        or any(not isfinite(m.size) for m in marks)
        or any(m.gradient == inf for m in marks)
    )
