"""The best bias of an output, in parts."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from plumbob.columns import columns

_SHOWN = 10  # units


@dataclass(frozen=True)
class OptimalBias:
    """The best bias and how it comes about; `print` shows the terms.

    `terms` add up to `bias`; `high` ends the interval where a whole one is best.
    """

    bias: Float[Tensor, " units"]
    terms: Mapping[str, Float[Tensor, " units"]]
    note: str
    high: Float[Tensor, " units"] | None = None

    def __str__(self) -> str:
        """Return a table: a row for each unit, a column for each term."""
        values = [*self.terms.values(), self.bias]
        units = range(min(len(self.bias), _SHOWN))
        rows = [[str(i), *(f"{v[i]:.4g}" for v in values)] for i in units]
        head = ["unit", *self.terms, "bias"]
        table = columns(head, rows, right=range(len(head)))
        more = len(self.bias) - len(units)
        return f"{table}\n{self.note}" + (f"; {more} more units" if more else "")
