"""What has been traced and run, for the facts that build on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from plumbob.survey.batches import Batch
from plumbob.survey.graph import Graph
from plumbob.survey.probe import Probed
from plumbob.types import Output, Site, Stage

BEGUN = 256  # samples; enough to see whether targets follow from inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One model in front of one batch, with all that was measured before.

    `graphs` are by mode (True: training), as far as it could be traced; `batch` is the
    first one of the data, `begun` it and those after it, up to BEGUN samples. `loss` is
    the user's, or else the model's own where it is recognised, of the outputs in
    `probed`; `given` tells the first from the second.
    """

    model: nn.Module
    batch: Batch
    begun: tuple[Batch, ...]
    probed: Probed
    sites: tuple[Site, ...]
    graphs: Mapping[bool, Graph]
    loss: Callable[..., Any] | None
    given: bool
    optimizer: Any
    output: Output | None
    said: Stage | None
    trained: bool  # said, or shown by the optimiser's state
