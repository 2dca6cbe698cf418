"""What becomes of the signal on its way through the depth, and of its gradient."""

from collections.abc import Mapping
from dataclasses import dataclass

from plumbob.types.words import NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """The gradient with respect to z at the sites of chains of three maps or more.

    `gradients` are norms of dL/dz over one batch, `places` how many times a sample
    meets the map (the positions of a convolution). `later` are the norms after
    `steps` steps on a copy, which are taken only where the first are suspiciously
    small; `not_repeated` says why they could not be.
    """

    samples: int
    gradients: Mapping[str, float] = NOTHING
    places: Mapping[str, float] = NOTHING
    later: Mapping[str, float] = NOTHING
    steps: int = 0
    not_repeated: str = ""
