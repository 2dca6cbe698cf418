"""What becomes of the signal on its way through the depth, and of its gradient."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """Gains along chains of maps without norm or residual."""

    samples: int
