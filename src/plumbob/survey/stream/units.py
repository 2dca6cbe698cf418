"""What the units of a running model give: hooks that add into tensors of their own."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.errors import one_line
from plumbob.survey.quiet import measuring
from plumbob.survey.stream.places import Place, place, unknown
from plumbob.survey.stream.taken import EMPTY, Taken, take
from plumbob.survey.stream.unsaved import Unsaved
from plumbob.survey.tally import SATURATED_ABOVE, by_unit
from plumbob.types import Site

LARGE = 2**18  # elements of a result; of a larger one evenly spaced rows are measured,
LEAST = 512  # or places, about so many at least,
MANY = 16  # of so many samples
PILOT = 16  # rows whose mean is the first shift

UNCALLED = "its module was not called in training, or by .forward() alone"
LATE = (
    "torch.compile passes by hooks that came after the model had run: watch it before "
    "its first step, or call torch._dynamo.reset() after plumbob.watch(...)"
)


@dataclass(slots=True)
class Gate:
    """What all taps of a model ask; a compiled model has a graph for either answer."""

    open: bool = False


class Tap(Unsaved):
    """A forward hook that adds up the units of one map while the gate is open.

    Its state is one tensor of 8 numbers per unit: 32 bytes, in float32, or 64 where the
    map is in float64. A result is shifted by a mean of before (by that of its first
    rows at first), so that squares do not cancel. Every operation is
    on tensors, in place and without synchronisation, so that torch.compile takes it
    into its graph; a result is read at once, before anything can change it.

    What checkpointing computes again in the backward pass is not counted, except in
    compiled graphs, where counts double and means stay right. A unit whose values are
    not all finite, or too large to square, spoils its own sums alone.
    """

    def __init__(self, gate: Gate, state: Tensor, where: Place) -> None:
        self.gate = gate
        self.state = state
        self.units = state.shape[1]
        self.where = where
        self.above: float | None = None
        self.fresh = True  # there is no shift yet
        self.share = 1.0  # of the samples that are measured
        self.error: str | None = None

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Add up what the map gave, if the gate is open and the model trains."""
        if not self.gate.open or not (module.training or torch.is_grad_enabled()):
            return
        if torch.compiler.is_compiling():
            self._see(output)
        elif self.error is None:
            try:
                self._see(output)
            except Exception as error:  # no memory, say: it is none of the training's
                self.error = f"could not be measured: {one_line(error)}"

    def _see(self, output: Any) -> None:
        value = output if type(output) is Tensor else next(_leaves(output), None)
        if type(value) is Tensor and not _passing(value) and self._fits(value):
            self._add(value.detach())

    def _fits(self, x: Tensor) -> bool:
        axis, flat = self.where.axis, self.where.flat
        if not x.is_floating_point() or not x.numel() or x.is_meta:
            return False
        if x.ndim < max(flat, -axis, axis + 1):
            return False
        sizes = x.shape[-flat:] if flat > 1 else x.shape[axis : axis + 1 or None]
        return sizes.numel() == self.units

    def _add(self, x: Tensor) -> None:
        if self.where.flat > 1:
            x = x.flatten(-self.where.flat)
        last = self.where.axis == -1
        rows = x.reshape(-1, self.units) if last else by_unit(x, self.where.axis)
        t = _fewer(rows)
        if t.dtype not in {torch.float32, torch.float64}:
            t = t.float()
        if self.state.device != t.device:  # the model was moved after it was watched
            self.state = self.state.to(t.device)
        dims = (0,) if t.ndim == 2 else (0, 2)
        shift, count, total, squares, positive, high, low, beyond = self.state.unbind(0)
        count += t.numel() // self.units
        if self.fresh or torch.compiler.is_compiling():  # no graph of its own for it
            few = (t[:PILOT] if t.ndim == 2 else t[:1]).mean(dims)
            few = few.nan_to_num(0.0, 0.0, 0.0)  # lest all that follows be spoilt too
            shift.copy_(torch.where(shift.isnan(), few, shift))
        scratch = t - (shift if t.ndim == 2 else shift[:, None])
        total += scratch.sum(dims)
        squares += scratch.mul_(scratch).sum(dims)
        # a comparison written as numbers adds up 4 times faster than one of booleans
        positive += torch.gt(t, 0, out=scratch).sum(dims)
        high.clamp_(min=t.amax(dims))
        low.clamp_(max=t.amin(dims))
        if self.above is not None:
            torch.abs(t, out=scratch)
            beyond += torch.gt(scratch, self.above, out=scratch).sum(dims)
        if not torch.compiler.is_compiling():
            self.fresh = False
            self.share = len(t) / len(rows) if t.ndim == 3 else 1.0


def _never_alone(hook: Any) -> None:
    """Keep torch.compile from taking a function for a graph of its own.

    It would where the graph of the model breaks, anew for each width, until it says
    that it gives up. Inside a graph the function is part of it as ever.
    """
    with suppress(AttributeError):  # before torch 2.7 there is no such choice
        frames: Any = torch._C._dynamo.eval_frame  # pyright: ignore
        skip = frames._FrameAction.SKIP
        strategy = frames._FrameExecStrategy(skip, skip)
        frames.set_code_exec_strategy(hook.__code__, strategy)


_never_alone(Tap.__call__)


class Taps:
    """The taps of all sites that modules compute.

    `unseen` says of which sites and modules nothing is measured here, and why.
    """

    def __init__(self, model: nn.Module, sites: Iterable[Site]) -> None:
        self.gate = Gate()
        self.taps: dict[str, Tap] = {}
        self.handles: dict[str, Any] = {}
        self.seen = set[str]()
        self.passed_over = set[str]()
        self.reads = self.collected = 0
        sites, modules = tuple(sites), dict(model.named_modules())
        self.unseen = unknown(model, sites)
        for site in sites:
            where = place(model, site, modules)
            if isinstance(where, str):
                self.unseen[site.name] = where
                continue
            state = _state(model.get_parameter(site.weight), site.out)
            tap = self.taps[site.name] = Tap(self.gate, state, where)
            self.handles[site.name] = where.module.register_forward_hook(tap)

    def open(self, now: bool) -> None:
        """Measure from now on, or do not."""
        self.gate.open = now

    def know(self, sites: Iterable[Site]) -> None:
        """Take in what a trace has found: measure what activations need, drop the rest.

        Saturation is counted where the activation saturates; norms stay measured where
        an activation reads them. In a compiled model this costs a new graph, so it is
        done once.
        """
        sites = tuple(sites)
        self.watch_saturation({
            site.name: SATURATED_ABOVE[site.activation]
            for site in sites
            if site.activation in SATURATED_ABOVE
        })
        for site in sites:
            idle = site.kind == "norm" and not site.activation
            if idle and (handle := self.handles.pop(site.name, None)):
                handle.remove()  # its state stays, for ranks to have as many units
                self.passed_over.add(site.name)

    def watch_saturation(self, above: Mapping[str, float]) -> None:
        """Count at these sites from now on how often |z| is above a threshold."""
        for name in above.keys() & self.taps.keys():
            self.taps[name].above = above[name]

    @torch.no_grad()
    def collect(self, samples: int = 0, *, together: bool = False) -> Taken:
        """Return what came since the last time, on its way to the host; start anew.

        `samples` is how many independent inputs the model has had meanwhile, if known.
        It takes a copy per device and no waiting: read it a step later. With `together`
        it is of all ranks, each of which must come here: at a step that is due by its
        number, or by what is the same on all ranks.
        """
        states = {name: tap.state for name, tap in self.taps.items()}
        self.collected += 1  # means drift more slowly with time
        centre = self.collected & (self.collected - 1) == 0
        return Taken(
            take(states, samples, together=together, centre=centre),
            samples=samples,
            shares={name: tap.share for name, tap in self.taps.items()},
            watched=frozenset(n for n, tap in self.taps.items() if tap.above),
            on_read=self._read,
        )

    def _read(self, names: Iterable[str]) -> None:
        self.reads += 1
        self.seen.update(names)

    def silent(self) -> dict[str, str]:
        """Return the sites that gave nothing in all that was read, and why."""
        if not self.reads:
            return {}
        failed = {n: tap.error for n, tap in self.taps.items() if tap.error}
        names = self.taps.keys() - self.seen - self.passed_over
        late = "torch._dynamo" in sys.modules and not self.seen
        return dict.fromkeys(sorted(names), LATE if late else UNCALLED) | failed

    def close(self) -> None:
        """Take the hooks off."""
        self.gate.open = False
        for handle in self.handles.values():
            handle.remove()
        self.handles.clear()


def _state(weight: Tensor, units: int) -> Tensor:
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    with torch.inference_mode(False), torch.no_grad():
        device = "cpu" if weight.is_meta else weight.device
        rows = torch.tensor([nan, *EMPTY], dtype=dtype, device=device)
        return rows[:, None].repeat(1, units)


def _leaves(output: Any) -> Iterator[Any]:
    """Yield what a module returned, part by part: of a packed sequence its data."""
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        for part in output:
            yield from _leaves(part)
    else:
        yield output


def _passing(x: Tensor) -> bool:
    """Whether values are computed again, traced, in torch.func, or ours: not kept.

    Asked in eager mode alone: a compiled graph would break there.
    """
    if torch.compiler.is_compiling():
        return False
    inside: Any = torch._C  # pyright: ignore
    again = inside._current_graph_task_id() != -1 or inside._is_tracing()
    return again or measuring() or inside._functorch.is_functorch_wrapped_tensor(x)


def _fewer(t: Tensor) -> Tensor:
    """Return evenly spaced rows of a large result, else all of it.

    Where units are inside rows are samples: about MANY at least, the rest is left out
    of their places. Spacings are odd: no factors of sizes that are powers of two.
    """
    units = t.shape[1]
    every = -(-(t.numel() // units) // max(LARGE // units, LEAST))
    if every <= 1:
        return t
    inside = 1 if t.ndim == 2 else -(-every // (len(t) // MANY | 1)) | 1
    t = t[:: -(-every // inside) | 1]
    return t if inside == 1 else t[:, :, ::inside].contiguous()  # it is read five times
