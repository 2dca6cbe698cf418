"""Gradients of the loss: how large, whether finite, whether there is a path at all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from plumbob.types import Gradient, Site


class Gradients:
    """The gradient of every trainable parameter, averaged over all samples.

    With a loss that is a mean over samples this is the gradient of one large batch;
    `.grad` and its hooks are not involved.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = {
            name: p for name, p in model.named_parameters() if p.requires_grad
        }
        self.mean: dict[str, Tensor] = {}
        self.samples = 0
        self.hidden = False  # by reentrant checkpointing: not known

    def add(self, loss: Tensor, samples: int) -> None:
        """Differentiate the loss of a batch and average.

        Raises:
            RuntimeError: the backward pass failed.
        """
        self.samples += samples
        share = samples / self.samples
        if not loss.requires_grad:
            self._merge([None] * len(self.parameters), share)
            return
        wanted = list(self.parameters.values())
        try:
            found: Any = torch.autograd.grad(loss, wanted, allow_unused=True)
        except RuntimeError as error:
            if "Checkpointing is not compatible" not in str(error):
                raise
            self.hidden = True
            return
        if any(g is None for g in found) and _checkpointed(loss):
            self.hidden = True
        self._merge(found, share)

    def _merge(self, found: Sequence[Tensor | None], share: float) -> None:
        """Average in a batch's gradients; of a parameter not reached it is 0."""
        for name, g in zip(self.parameters, found, strict=True):
            before = self.mean.get(name)
            if g is None:
                if before is not None:
                    self.mean[name] = before * (1 - share)
                continue
            g = g.detach().to_dense() if g.is_sparse else g.detach()
            g = g.float() if g.dtype in {torch.float16, torch.bfloat16} else g
            if before is None:
                self.mean[name] = g if share == 1 else g * share
            else:
                self.mean[name] = before.lerp(g, share)

    def facts(self) -> dict[str, Gradient]:
        """Return the facts of each parameter; the norm is of the finite values."""
        return {name: _fact(self.mean.get(name)) for name in self.parameters}

    def rows(self, site: Site) -> tuple[Any, Any]:
        """Return the norms of the gradients of a site's rows, and of its bias."""
        w = self.mean.get(site.weight)
        b = self.mean.get(site.bias or "")
        bias = None if b is None else _np(b).reshape(-1).__abs__()
        if bias is not None and site.rows and len(bias) != site.out:
            bias = bias[slice(*site.rows)]
        norms = None if w is None else _row_norms(w, site)
        fits = bias is not None and len(bias) == site.out
        return norms, bias if fits else None


def _checkpointed(loss: Tensor) -> bool:
    """Whether the graph holds a part that only its own backward would unfold."""
    seen, ahead = set[Any](), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if node.name() == "CheckpointFunctionBackward":
            return True
        seen.add(node)
        ahead += [parent for parent, _ in node.next_functions]
    return False


def _fact(g: Tensor | None) -> Gradient:
    if g is None:
        return Gradient(reached=False)
    norm = float(torch.linalg.vector_norm(g))
    if np.isfinite(norm):
        return Gradient(reached=True, norm=norm)
    g = g.double()
    finite = g.isfinite()
    norm = float(torch.where(finite, g, 0.0).norm())
    return Gradient(reached=True, norm=norm, nonfinite=int((~finite).sum()))


def _row_norms(g: Tensor, site: Site) -> Float[Any, " out"] | None:
    if site.kind == "norm":
        rows = g.reshape(-1, 1)
    elif site.kind == "conv-transpose":  # (in, out / groups, ...)
        parts = g.reshape(site.groups, len(g) // site.groups, g.shape[1], -1)
        rows = parts.transpose(1, 2).reshape(site.out, -1)
    elif site.transposed:
        rows = g.reshape(g.shape[0], -1).T
    else:
        rows = g.reshape(g.shape[0], -1)
    if site.rows and len(rows) != site.out:
        rows = rows[slice(*site.rows)]
    if len(rows) != site.out:
        return None
    return _np(torch.linalg.vector_norm(rows, dim=1))


def _np(t: Tensor) -> Any:
    return t.double().cpu().numpy()
