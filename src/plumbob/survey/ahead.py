"""A few steps of training that a copy takes."""

import torch
from torch import nn

from plumbob.survey.copies import batch_copy, copies, step
from plumbob.survey.probe import loss_of
from plumbob.survey.scene import Scene

STEPS = 5
LR = 1e-3  # of Adam, where no optimiser is known: a size that any net bears


def ahead(scene: Scene) -> nn.Module:
    """Return a copy of the model after STEPS steps on the batch; no trace is left.

    It takes them with a copy of the user's optimiser, or with Adam.

    Raises:
        RuntimeError: a part of the model cannot be copied, or a step cannot be taken.
    """
    model, optimizers = copies(scene.model, scene.optimizer)
    held = [p for p in model.parameters() if p.requires_grad]
    if not optimizers:
        optimizers = [torch.optim.Adam(held, lr=LR)]

    def again() -> torch.Tensor:
        batch = batch_copy(scene.batch)
        model.zero_grad()
        output = model(*batch.args, **batch.kwargs)
        value = loss_of(output, batch, scene.loss if scene.given else None)
        if value is None or not value.requires_grad:
            raise RuntimeError("the loss does not depend on the parameters")
        value.backward(inputs=held)  # not into what the loss has of its own
        return value.detach()

    with torch.inference_mode(False), torch.enable_grad():
        for _ in range(STEPS):
            again()
            step(optimizers, again)
    return model
