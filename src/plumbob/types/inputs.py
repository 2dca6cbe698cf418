"""What the model is fed, and what it is to give."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Facts of the inputs, of the targets, and of the operations that make outputs."""

    samples: int
