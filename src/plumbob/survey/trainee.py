"""A copy of a model's parameters that its optimiser's copy steps, on one batch."""

import copy
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from plumbob.survey.batches import Batch
from plumbob.survey.optimizer import each
from plumbob.survey.probe import loss_of

Gradients = Mapping[str, Tensor | None]


class Trainee:
    """Parameters, buffers and optimisers, all copies; the model lends its code alone.

    The model runs with the copies in the place of its own, so that a loss that reads
    `model.parameters()` sees them too. A copied optimiser has no hooks, and knows no
    scheduler. Every pass draws the same random numbers: dropout is then a part of the
    function, and the losses of two passes differ by the parameters alone.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        batch: Batch,
        loss: Callable[..., Any] | None,
    ) -> None:
        self.whole = _Whole(model, batch, loss)
        self.parameters = {n: _leaf(p) for n, p in model.named_parameters()}
        self.buffers = {n: b.clone() for n, b in model.named_buffers()}
        own = {id(p): self.parameters[n] for n, p in model.named_parameters()}
        # A torch optimiser copies its groups, defaults and state, and these alone.
        self.optimizers = [copy.deepcopy(one, dict(own)) for one in each(optimizer)]
        self.random = torch.get_rng_state()

    def loss(self) -> float:
        """Return the loss of the batch at the copies."""
        with torch.inference_mode(False), torch.no_grad():
            return float(self._run(())[0])

    def gradients(self) -> tuple[float, Gradients]:
        """Return the loss of the batch and its gradients; None where there is no path.

        Raises:
            RuntimeError: the loss does not depend on the parameters, or its backward
                pass failed.
        """
        wanted = {n: p for n, p in self.parameters.items() if p.requires_grad}
        with torch.inference_mode(False), torch.enable_grad():
            value, found = self._run(list(wanted.values()))
        return float(value), dict(zip(wanted, found, strict=True))

    def step(self, gradients: Gradients) -> None:
        """Let all optimisers take one step with these gradients."""
        for name, parameter in self.parameters.items():
            g = gradients.get(name)
            parameter.grad = None if g is None else g.to(parameter.dtype)
        for one in self.optimizers:
            one.step()

    def _run(self, wanted: Any) -> tuple[Tensor, Any]:
        torch.set_rng_state(self.random)
        torch.clear_autocast_cache()  # casts of the parameters before the step
        given = {f"model.{n}": t for n, t in (self.parameters | self.buffers).items()}
        eager = nullcontext()
        if "torch._dynamo" in sys.modules:
            eager = torch.compiler.set_stance("force_eager")
        with eager:
            return torch.func.functional_call(self.whole, given, (wanted,))


class _Whole(nn.Module):
    """The model, its loss and the gradients, while the copies are in their place."""

    def __init__(
        self, model: nn.Module, batch: Batch, loss: Callable[..., Any] | None
    ) -> None:
        super().__init__()
        self.model = model
        self.batch, self.loss = batch, loss

    def forward(self, wanted: Any) -> tuple[Tensor, Any]:
        batch = _copied(self.batch)  # the model or the loss may work in place
        value = loss_of(self.model(*batch.args, **batch.kwargs), batch, self.loss)
        if value is None or not (value.requires_grad or not wanted):
            raise RuntimeError("the loss does not depend on the parameters")
        found: Any = ()
        if wanted:
            found = torch.autograd.grad(value, wanted, allow_unused=True)
        return value.detach(), found


def _leaf(p: Tensor) -> Tensor:
    return p.detach().clone().requires_grad_(p.requires_grad)


def _copied(batch: Batch) -> Batch:
    """Copy a batch; one tensor given twice stays one."""
    copies: dict[int, Tensor] = {}

    def copied(t: Tensor) -> Tensor:
        if id(t) not in copies:
            copies[id(t)] = t.detach().clone()
        return copies[id(t)]

    parts = (batch.args, dict(batch.kwargs), batch.targets)
    args, kwargs, targets = pytree.tree_map_only(Tensor, copied, parts)
    return Batch(args=args, kwargs=kwargs, targets=targets, samples=batch.samples)
