"""What the units of a running model give: hooks that add into tensors of their own."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from plumbob.survey.tally import moments
from plumbob.types import Moments, Site

AXES = {"linear": -1, "conv": 1, "conv-transpose": 1, "embedding": -1}


class Tap:
    """A forward hook that adds up the units of one map while it is open."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.open = False
        self.sums: Moments | None = None
        self.samples = 0

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Add up what the map gave, if the tap is open."""
        if not self.open or not isinstance(output, Tensor) or not module.training:
            return
        part = moments(output, self.axis)[0]
        self.sums = part if self.sums is None else self.sums + part
        self.samples += len(output)


class Taps:
    """The taps of all sites that are modules; `unseen` says which are not, and why."""

    def __init__(self, model: nn.Module, sites: Iterable[Site]) -> None:
        modules = dict(model.named_modules())
        self.taps: dict[str, Tap] = {}
        self.unseen: dict[str, str] = {}
        self.handles: list[Any] = []
        for site in sites:
            module = modules.get(site.weight.rpartition(".")[0])
            if module is None or site.kind not in AXES:
                self.unseen[site.name] = "no module of its own computes it"
                continue
            tap = self.taps[site.name] = Tap(AXES[site.kind])
            self.handles.append(module.register_forward_hook(tap))

    def open(self, now: bool) -> None:
        """Measure from now on, or do not."""
        for tap in self.taps.values():
            tap.open = now

    def collect(self) -> dict[str, tuple[Moments, int]]:
        """Return moments and samples by site since the last time, and start anew."""
        found = {
            name: (tap.sums, tap.samples)
            for name, tap in self.taps.items()
            if tap.sums is not None
        }
        for tap in self.taps.values():
            tap.sums, tap.samples = None, 0
        return found

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()
