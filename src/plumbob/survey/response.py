"""How a model answers to other inputs, for pictures of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from plumbob.errors import one_line
from plumbob.survey.batches import Batch
from plumbob.survey.path_count import count_paths
from plumbob.survey.robustness import robustness
from plumbob.types import Census, Site


def response(
    model: nn.Module,
    batch: Batch,
    sites: Sequence[Site],
    bends: Sequence[str],
    parameters: Mapping[str, Census],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields `paths` and `robustness` of a survey, and why one is not."""
    found: dict[str, Any] = {}
    unseen: dict[str, str] = {}
    measures = {
        "paths": lambda: count_paths(model, batch),
        "robustness": lambda: robustness(model, batch, sites, bends, parameters),
    }
    for name, measure in measures.items():
        try:
            found[name], why = measure()
        except Exception as error:  # forward is the user's: it may refuse evaluation
            found[name], why = None, one_line(error)
        if why:
            unseen[name] = why
    return found, unseen
