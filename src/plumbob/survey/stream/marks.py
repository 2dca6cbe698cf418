"""What a step of the optimiser does to each parameter."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.survey.stream.later import Later
from plumbob.survey.stream.part import (
    DD,
    GD,
    MOVING,
    SQUARE,
    SWALLOWED,
    WD,
    WG,
    WW,
    Part,
    Second,
    own,
)
from plumbob.types import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was measured of a part: numbers on its device, the rest here."""

    names: Sequence[str]
    sizes: Sequence[int]
    given: Sequence[bool]
    settings: Sequence[tuple[float | Later, float]]  # learning rate, weight decay
    numbers: Tensor

    def marks(self, numbers: Any) -> dict[str, Mark]:
        """Return the marks, given the numbers as an array."""
        found: dict[str, Mark] = {}
        rows, count = numbers.tolist(), len(self.names)
        for n, name in enumerate(self.names):
            one, (lr, decay), given = rows[n], self.settings[n], self.given[n]
            norm = sqrt(one[SQUARE]) if isfinite(one[SQUARE]) else inf
            found[name] = Mark(
                numel=self.sizes[n],
                size=_root(one[WW]),
                gradient=norm if given else nan,
                change=_root(one[DD]),
                pull=one[WG] if given else nan,
                slope=one[GD] if given else nan,
                along=one[WD],
                moved=_root(rows[count + n][DD]) if count + n < len(rows) else nan,
                swallowed=one[SWALLOWED] / one[MOVING] if one[MOVING] else nan,
                lr=float(lr.read()[0] if isinstance(lr, Later) else lr),
                decay=decay,
            )
        return found


def _root(square: float) -> float:
    return sqrt(square) if square >= 0 else nan


class Marks:
    """Measures parameters and gradients before a step, and what it made of them."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.start: dict[str, tuple[Tensor, Tensor]] = {}  # vectors, as they began
        self.parts: dict[int, tuple[Any, list[Part]]] = {}
        self.settings: dict[str, tuple[float | Later, float]] = {}
        self.found: list[Found] = []
        self.looked = set[int]()
        self.holders: list[tuple[Mapping[str, Any], str, Tensor]] = []
        self.known: dict[str, Tensor] = {}
        self.together = False  # whether every rank measures
        self.at_rest: tuple[Any, list[Found]] = (None, [])

    def named(self, *, anew: bool = False) -> dict[str, Tensor]:
        """Return the parameters by name; walk through the model only if one is new."""
        if anew or any(held.get(n) is not p for held, n, p in self.holders):
            self.known = {}
        if not self.known:
            self.known = dict(self.model.named_parameters())
            held = [
                vars(module)["_parameters"]
                for module in self.model.modules()
                if not isinstance(module, torch.jit.ScriptModule)  # keeps what it has
            ]
            self.holders = [
                (some, name, p)
                for some in held
                for name, p in some.items()
                if p is not None
            ]
        return self.known

    @torch.no_grad()
    def look(self, optimizer: Any) -> None:
        """Before a step."""
        names = {id(p): name for name, p in self.named().items()}
        groups = optimizer.param_groups
        if any(id(p) not in names for group in groups for p in group["params"]):
            names = {id(p): name for name, p in self.named(anew=True).items()}
        named: dict[str, Tensor] = {}
        for group in groups:
            lr: Any = group.get("lr", nan)
            if isinstance(lr, Tensor):  # a schedule changes it before it is read
                lr = Later([lr])
            setting = (lr, float(group.get("weight_decay") or 0))
            for p in group["params"]:
                if (name := names.get(id(p))) is not None and _measurable(p):
                    named[name] = p
                    self.settings[name] = setting
        for part in self._parts(id(optimizer), named):
            part.look()
        self.looked.add(id(optimizer))

    @torch.no_grad()
    def look_at_gradients(self, optimizer: Any) -> None:
        """Once the gradients are what the optimiser gets."""
        scale = getattr(optimizer, "grad_scale", None)
        parts = self.parts[id(optimizer)][1]
        for part in parts:
            part.look_at_gradients(scale)
        by_hand = not isinstance(optimizer, torch.optim.Optimizer)
        if by_hand and not any(any(part.given) for part in parts):
            self.settings.clear()  # the loop clears them before it tells of its step

    @torch.no_grad()
    def compare(self, optimizer: Any) -> list[Tensor]:
        """After the step; to be passed on to `keep`."""
        self.looked.discard(id(optimizer))
        return [
            part.measure([*_seconds(optimizer, part.parameters)])
            for part in self.parts[id(optimizer)][1]
        ]

    @torch.no_grad()
    def keep(self, optimizer: Any, measured: list[Tensor]) -> None:
        """Keep what was measured, of all ranks where they measure together."""
        parts = self.parts[id(optimizer)][1]
        for part, numbers in zip(parts, measured, strict=True):
            for group in part.groups if self.together else ():
                torch.distributed.all_reduce(numbers, group=group)
            self.found.append(self._found(part, part.given, numbers))

    def _found(self, part: Part, given: Sequence[bool], numbers: Tensor) -> Found:
        none = (nan, 0.0)
        return Found(
            names=part.names,
            sizes=[p.numel() for p in part.parameters],
            given=given,
            settings=[self.settings.get(name, none) for name in part.names],
            numbers=numbers,
        )

    def _parts(self, key: int, named: Mapping[str, Tensor]) -> list[Part]:
        sign = [(n, id(p), p.device, p.dtype, p.shape) for n, p in named.items()]
        known, parts = self.parts.get(key, (None, []))
        if sign != known:
            rooms: dict[Any, dict[str, Tensor]] = {}
            for name, p in named.items():
                rooms.setdefault((p.device, _groups(p)), {})[name] = p
                values = own(p.detach())
                held, begun = self.start.get(name, (None, values))
                if p.ndim < 2 and (held is not p or begun.shape != values.shape):
                    self.start[name] = p, values.clone()
            start = {name: begun for name, (_, begun) in self.start.items()}
            parts = [Part(some, groups, start) for (_, groups), some in rooms.items()]
            self.parts[key] = (sign, parts)
        return parts

    @torch.no_grad()
    def collect(self) -> list[Found]:
        """Return what was found since the last time; of other parameters the size."""
        found, self.found = self.found, []
        seen = {name for one in found for name in one.names}
        rest = {
            name: p
            for name, p in self.named().items()
            if name not in seen and _measurable(p)
        }
        # frozen parameters stay as they are: their versions say so; others may be moved
        # by what no version tells of, as the copy of an optimiser's own weights is
        versions = [
            (name, id(p), None if p.is_inference() else p._version)
            for name, p in rest.items()
        ]
        pulled = any(p.grad is not None for p in rest.values())
        if versions != self.at_rest[0] or pulled:
            self.at_rest = (versions, [])
            for part in self._parts(0, rest):
                part.look()
                none = [False] * len(rest)
                self.at_rest[1].append(self._found(part, none, part.sizes()))
        return found + self.at_rest[1]


def _measurable(p: Tensor) -> bool:
    lazy = isinstance(p, nn.parameter.UninitializedParameter)
    return not lazy and (p.is_floating_point() or p.is_complex()) and not p.is_meta


def _groups(p: Any) -> tuple[Any, ...]:
    """Return the process groups over which a parameter is cut up."""
    cuts = enumerate(getattr(p, "placements", ()))
    return tuple(p.device_mesh.get_group(axis) for axis, cut in cuts if cut.is_shard())


def _seconds(optimizer: Any, parameters: Iterable[Tensor]) -> Iterable[Second | None]:
    """Yield second moments, each beside what epsilon's square is worth in it."""
    groups = {id(p): g for g in optimizer.param_groups for p in g["params"]}
    for p in parameters:
        kept, group = optimizer.state.get(p, {}), groups[id(p)]
        names = ("exp_avg_sq", "square_avg", "sum")
        second: Any = next((kept[name] for name in names if name in kept), None)
        eps = group.get("eps")
        if not isinstance(eps, float) or getattr(second, "shape", None) != p.shape:
            yield None
            continue
        limit: float | Tensor = eps**2
        if "betas" in group and "step" in kept:
            step = kept["step"]
            waits = isinstance(step, Tensor) and step.device.type != "cpu"
            taken = step if waits else float(step)
            limit = limit * (1 - group["betas"][1] ** taken)
        yield second, limit
