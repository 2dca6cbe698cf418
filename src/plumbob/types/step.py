"""What one step of the optimiser does, tried on a copy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How parameters and loss change in one step."""

    samples: int
