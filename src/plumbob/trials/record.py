"""What one training of a trial has left."""

from dataclasses import dataclass, field
from math import nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training from one seed.

    `curve` holds (step, validation loss, metric) from step 0 on, `did` the acts that
    changed the model and where, `diverged` the step at which a loss was not finite,
    `given` fingerprints of the weights it began with and of the batches until each
    validation.
    """

    arm: str
    seed: int
    curve: tuple[tuple[int, float, float | None], ...]
    did: tuple[tuple[str, str], ...] = ()
    diverged: int | None = None
    given: tuple[str, ...] = ()
    seconds: float = field(default=nan, compare=False)

    @property
    def ended(self) -> bool:
        """Whether all steps were taken with finite losses."""
        return self.diverged is None

    @property
    def loss(self) -> float:
        """The last validation loss."""
        return self.curve[-1][1] if self.curve else nan

    @property
    def metric(self) -> float | None:
        """The last metric on the validation data."""
        return self.curve[-1][2] if self.curve else None
