"""Penalties within a loss: what it asks of the parameters, whatever the outputs are."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from plumbob.survey.scene import Scene
from plumbob.types import Pull

_CLOSE = 1e-3  # of the gradient, that a penalty of this form may leave unexplained


def penalties(scene: Scene) -> tuple[dict[str, Pull], dict[str, float]]:
    """Return the pull on each parameter, and the norm of its gradient without it.

    The outputs are held fixed, so that what is left of the gradient of the loss is
    that of terms which read the parameters themselves.
    """
    mean = scene.probed.mean_gradients
    norms = {name: fact.norm for name, fact in scene.probed.gradients.items()}
    found = _held_fixed(scene) if scene.given else {}
    parameters = dict(scene.model.named_parameters())
    pulls = {name: _pull(parameters[name].detach(), g) for name, g in found.items()}
    rest = {n: float((mean[n] - g).norm()) for n, g in found.items() if n in mean}
    return pulls, norms | rest


def _held_fixed(scene: Scene) -> Mapping[str, Tensor]:
    """Return the gradient at fixed outputs, of the parameters that have one."""
    held = (scene.probed.outputs, scene.probed.targets)
    outputs, targets = pytree.tree_map_only(Tensor, lambda t: t.detach().clone(), held)
    wanted = {n: p for n, p in scene.model.named_parameters() if p.requires_grad}
    with torch.inference_mode(False), torch.enable_grad():
        value = scene.loss(outputs, targets) if scene.loss else None
        if not isinstance(value, Tensor) or not value.requires_grad:
            return {}
        parts = torch.autograd.grad(
            value.sum(), list(wanted.values()), allow_unused=True
        )
    found: Any = zip(wanted, parts, strict=True)
    return {name: g for name, g in found if g is not None and bool(g.any())}


def _pull(w: Tensor, g: Tensor) -> Pull:
    w, g = w.double(), g.double()
    norm = float(g.norm())
    for order, form, size in (
        (2, 2 * w, float(w.square().sum())),
        (1, w.sign(), float(w.abs().sum())),
    ):
        strength = float((g * form).sum() / form.square().sum().clamp_min(1e-300))
        if float((g - strength * form).norm()) <= _CLOSE * norm:
            return Pull(
                order=order, strength=strength, norm=norm, value=strength * size
            )
    return Pull(order=0, strength=0.0, norm=norm, value=0.0)
