"""A model and its optimiser copied together, and steps that only the copies take."""

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from plumbob.survey.batches import Batch
from plumbob.survey.optimizer import each

Model = TypeVar("Model", bound=nn.Module)


def copies(model: Model, optimizer: Any) -> tuple[Model, list[torch.optim.Optimizer]]:
    """Copy both in one go, so that the copy's optimisers hold the copy's parameters.

    The copies' step hooks are dropped, which are the user's. A scheduler puts a step
    that is bound to its own optimiser in the place of an optimiser's, and copying
    keeps it: so only `step` below may step a copy.

    Raises:
        RuntimeError: a part of the model cannot be copied.
    """
    made, held = copy.deepcopy((model, list(each(optimizer)) if optimizer else []))
    for one in held:
        for hooks in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
            getattr(one, hooks, {}).clear()
    return made, held


def step(optimizers: Sequence[torch.optim.Optimizer], again: Any = None) -> None:
    """Take one step with each, by its class's own method.

    `again` computes the loss and its gradients anew, for those that ask for it.
    """
    for one in optimizers:
        type(one).step(one, *([again] if isinstance(one, torch.optim.LBFGS) else []))


def batch_copy(batch: Batch) -> Batch:
    """Return a batch whose tensors may be worked on in place."""
    return copy.deepcopy(batch)
