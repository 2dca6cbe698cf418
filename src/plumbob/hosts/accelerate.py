"""A training loop over Hugging Face Accelerate watched."""

from typing import Any

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import nn

from plumbob.survey.optimizer import each
from plumbob.verbs import watch as verb
from plumbob.watching.watch import Watch


def watch(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, **options: Any
) -> Watch:
    """Watch what an accelerator has prepared.

    Why:
        `prepare` wraps the model (DDP, mixed precision) and the optimiser, whose step
        does nothing while gradients are accumulated. The clock is the optimiser inside,
        so a step is a step that is taken.

    Args:
        accelerator: the one that has prepared the model.
        model: what `prepare` returned.
        optimizer: what `prepare` returned, or several of them.
        options: those of `plumbob.watch`.

    Returns:
        The watch; `watch.step(loss)` notes the loss of the step taken last, so call it
        where `accelerator.sync_gradients` is true.
    """
    inner = [
        one.optimizer if isinstance(one, AcceleratedOptimizer) else one
        for one in each(optimizer)
    ]
    return verb.watch(accelerator.unwrap_model(model), inner, **options)
