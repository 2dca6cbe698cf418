"""How a model answers when its input is scaled or shifted, and by how many paths."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Paths from an input to an output along which every gate is open.

    A path goes through weights that are not 0, and through one input of each maximum.
    `active` counts them per sample, `total` those that there would be were every gate
    open. Exact up to 2^53, then rounded.
    """

    active: Float[Any, " samples"]
    total: Float[Any, " samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """What becomes of the decision (the largest output) under other inputs.

    `gains` and `offsets` map a factor a, or a shift in units of `unit` (the input's
    standard deviation), to the share of samples that keep their decision. `error` is
    the largest |f(a x) - a f(x)| over those gains, relative to the root mean
    square of a f; `degree` the power of a by which f grows between a = 1/2 and a = 2,
    nan where the output is 0. `structure` says that the model is positively homogeneous
    by the way it is built: no bias, nothing but ReLUs, leaky ReLUs and maxima between.
    """

    samples: int
    gains: dict[float, float]
    offsets: dict[float, float]
    unit: float
    error: float
    degree: float
    structure: bool

    @property
    def exact(self) -> bool:
        """Whether f(a x) = a f(x) by numbers, up to rounding in 16 bits at worst."""
        return self.error < 1e-2

    @property
    def homogeneous(self) -> bool:
        """Whether f(a x) = a f(x) for a > 0: by structure, and by numbers as well."""
        return self.structure and self.exact
