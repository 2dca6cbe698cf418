"""Facts about what the depth makes of signal and gradient."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.errors import one_line
from plumbob.paths import chains
from plumbob.survey.ahead import STEPS, ahead
from plumbob.survey.copies import batch_copy
from plumbob.survey.maps import Map, Maps
from plumbob.survey.probe import loss_of
from plumbob.survey.scene import Scene
from plumbob.types import Signals, Site

LONG = 3  # maps: along two, what one of them loses is all that can be lost
SMALL = 0.005  # of the largest behind it: a gradient that is looked at again


def signal_facts(scene: Scene) -> tuple[Signals | None, str]:
    """Return the gradient with respect to z along the chains, or None and why not.

    Why:
        A parameter's gradient mixes what comes back through the depth with the size
        of the layer's own input, and averages over the samples; dL/dz, sample by
        sample, is what the depth has left of it. One forward and one backward pass of
        the first batch, only where a chain is long enough to lose a signal, so that
        networks of norms and residual sums pay nothing. Where it has shrunk, the
        cause may be a last layer, a branch or a factor that begins at zero on
        purpose: after STEPS steps on a copy it has grown, where the depth is not to
        blame.
    """
    found = [chain for chain in chains(scene.sites) if len(chain) >= LONG]
    samples = scene.batch.samples
    if scene.probed.loss is None:
        return None, "no loss given"
    if not found:
        return Signals(samples=samples), ""
    here = _gradients(scene.model, scene, found)
    signals = Signals(
        samples=samples,
        gradients={name: size**0.5 for name, size in here.squares.items()},
        places={name: rows / samples for name, rows in here.rows.items()},
    )
    if not any(_shrunk(chain, signals.gradients) for chain in found):
        return signals, ""
    try:
        there = _gradients(ahead(scene), scene, found)
    except Exception as error:  # copying and stepping run the user's code
        return replace(signals, not_repeated=one_line(error)), ""
    later = {name: size**0.5 for name, size in there.squares.items()}
    return replace(signals, later=later, steps=STEPS), ""


def _shrunk(chain: Iterable[Site], gradients: Mapping[str, float]) -> bool:
    largest = 0.0
    for site in reversed(list(chain)):
        size = gradients.get(site.name)
        if size is not None and size < SMALL * largest:
            return True
        largest = max(largest, size or 0.0)
    return False


def _gradients(
    model: nn.Module, scene: Scene, found: Iterable[Iterable[Site]]
) -> "_Backwards":
    """Run a batch forward and backward, and look at dL/dz on the way back."""
    sites = [site for chain in found for site in chain]
    batch = batch_copy(scene.batch)
    maps = _Backwards(model, sites)
    with torch.inference_mode(False), torch.enable_grad():
        with maps:
            output = model(*batch.args, **batch.kwargs)
        maps.settle()
        value = loss_of(output, batch, scene.loss if scene.given else None)
        parameters = dict(model.named_parameters())
        wanted = [parameters.get(site.weight) for site in sites]
        held = [p for p in wanted if p is not None and p.requires_grad]
        if value is not None and value.requires_grad and held:
            torch.autograd.grad(value, held, allow_unused=True)
    return maps


class _Backwards(Maps):
    """Notes the square of dL/dz of each map as the backward pass comes by.

    At the operation that made z, not at z itself, which an activation in place may
    have overwritten. Autograd ties the two only after the operation is done: so at
    the next one.
    """

    def __init__(self, model: nn.Module, sites: Iterable[Site]) -> None:
        super().__init__(model, lambda _: None, self._wait)
        self.sites = {(s.weight, s.rows): s.name for s in sites}
        self.vectors = {s.weight for s in sites}
        self.made: list[tuple[str, Tensor]] = []
        self.squares: dict[str, float] = {}
        self.rows: dict[str, float] = {}

    def _wait(self, found: Map) -> None:
        name = self.sites.get((found.weight, found.rows))
        if name is not None and found.kind == "map":
            self.rows[name] = self.rows.get(name, 0) + found.z.numel() / found.units
            self.made.append((name, found.z))

    def settle(self) -> None:
        """Finish the batch."""
        self.forget()
        self._attach()

    def _attach(self) -> None:
        made, self.made = self.made, []
        for name, z in made:
            if z.grad_fn is not None:
                z.grad_fn.register_prehook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def note(gradients: tuple[Tensor | None, ...]) -> None:
            square = sum(
                float(torch.linalg.vector_norm(g.detach(), dtype=torch.float64)) ** 2
                for g in gradients
                if g is not None
            )
            self.squares[name] = self.squares.get(name, 0.0) + square

        return note

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self._attach()
        return super().__torch_dispatch__(func, types, args, kwargs)
