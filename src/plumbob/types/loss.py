"""How the loss behaves, whatever its class is called."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The loss as a function of the outputs and the targets, by its values."""

    samples: int
