"""What a step made of some parameters that lie on one device."""

from collections.abc import Mapping, Sequence
from math import nan, prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plumbob.survey.stream.samples import ROW, Samples

# What is measured of a parameter w with gradient g and step d: the products of the
# three, the gradient's square, and how many elements epsilon swallows, and of how many.
WW, WG, WD, GD, DD, SQUARE, SWALLOWED, MOVING = 0, 1, 2, 5, 8, 9, 10, 11
KINDS = 12
Second = tuple[Tensor, float | Tensor]


class Part:
    """The parameters of one optimiser on one device, in the order of `names`.

    The samples of w, g and d lie beside each other, so that one batched product gives
    all of theirs. Nothing here waits for the device.
    """

    def __init__(
        self,
        named: Mapping[str, Tensor],
        groups: Sequence[Any],
        start: Mapping[str, Tensor],
    ) -> None:
        # vectors first: how far they moved since the start is read off the first rows
        ordered = sorted(named.items(), key=lambda item: item[1].ndim > 1)
        self.names = [name for name, _ in ordered]
        self.parameters = [p for _, p in ordered]
        self.groups = groups
        self.vectors = sum(p.ndim < 2 for p in self.parameters)
        self.samples = at = Samples(self._values())
        count = len(at.owners)
        few = int((at.owners < self.vectors).sum())
        self.room = torch.zeros(3, count + few, ROW, dtype=at.dtype, device=at.device)
        self.before, self.gradients, self.step = self.room[:, :count]
        self.moved = self.room[2, count:]
        self.owners = torch.cat([at.owners, at.owners[:few] + len(self.names)])
        self.factors = torch.cat([at.factors, at.factors[: self.vectors]])[:, None]
        self.after, self.start = at.room(), at.room()[:few]
        begun = [start[name] for name in self.names[: self.vectors]]
        self._copy(at.places(self.start), dict(enumerate(begun)))
        self.places = at.places(self.before)
        self.slots = at.places(self.gradients)
        self.later = at.places(self.after)
        self.seconds: Tensor | None = None
        self.cells: list[Tensor] = []
        self.norms: Tensor = torch.zeros_like(at.factors)
        self.given: list[bool] = []
        self.sparse: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def _values(self) -> list[Tensor]:
        return [own(p) for p in self.parameters]

    def _copy(self, places: Sequence[Tensor], found: Mapping[int, Tensor]) -> None:
        samples = [self.samples.pick(n, t) for n, t in found.items()]
        if samples:
            torch._foreach_copy_([places[n] for n in found], samples)  # pyright: ignore

    def look(self) -> None:
        """Note the parameters before a step."""
        self._copy(self.places, dict(enumerate(self._values())))

    def look_at_gradients(self, scale: Tensor | None = None) -> None:
        """Note the gradients, divided by `scale`, as the optimiser gets them."""
        grads = [p.grad for p in self.parameters]
        found = {n: own(g) for n, g in enumerate(grads) if g is not None}
        whole, self.given = len(found) == len(grads), [g is not None for g in grads]
        self.sparse = {
            n: self._rows(n, g) for n, g in found.items() if g.layout != torch.strided
        }
        if self.sparse or not whole:
            self.gradients.zero_()
            self.norms = torch.zeros_like(self.samples.factors)
        if not found:
            return
        self._copy(self.slots, {n: g for n, g in found.items() if n not in self.sparse})
        some = [self.sparse[n][2] if n in self.sparse else g for n, g in found.items()]
        each = torch._foreach_norm(some, 2, dtype=self.samples.dtype)  # pyright: ignore
        if whole:
            self.norms = torch.stack(each).to(self.norms.dtype)
        else:
            torch._foreach_copy_([self.norms[n] for n in found], each)  # pyright: ignore
        if scale is not None:
            self.gradients.div_(scale)
            self.norms.div_(scale)

    def _rows(self, number: int, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return which rows a sparse gradient names, their parameters, and it."""
        gradient = gradient.coalesce()
        rows = gradient.indices()[0]
        return rows, own(self.parameters[number].detach())[rows], gradient.values()

    def measure(self, seconds: Sequence[Second | None]) -> Float[Tensor, "rows kinds"]:
        """Return KINDS numbers of each parameter, and as many of each vector again.

        In the second ones d is the step since the start. `seconds` are the optimiser's
        second moments, each beside what epsilon's square is worth in them.
        """
        self._copy(self.later, dict(enumerate(self._values())))
        torch.sub(self.after, self.before, out=self.step)
        torch.sub(self.after[: len(self.start)], self.start, out=self.moved)
        found = self._products(self.room)
        count = len(self.names)
        found[:count, SQUARE] = self.norms.square()
        self._swallowed(found, seconds)
        for number, (rows, old, grad) in self.sparse.items():
            new = own(self.parameters[number].detach())[rows]
            three = torch.stack([t.flatten().to(found) for t in (old, grad, new - old)])
            found[number, 1:9] = (three @ three.T).flatten()[1:]
        return found

    def _products(self, room: Float[Tensor, "3 rows 64"]) -> Tensor:
        by_row = room.transpose(0, 1)
        kind = room.device.type
        with torch.autocast(kind, enabled=False):  # a step may be inside of one
            products = torch.bmm(by_row, by_row.mT).flatten(1).to(self.factors.dtype)
        found = products.new_zeros(len(self.factors), KINDS)
        found[:, :9].index_add_(0, self.owners[: len(products)], products)
        return found.mul_(self.factors)

    def sizes(self) -> Float[Tensor, "rows kinds"]:
        """Return what was looked at, where nothing is known of a step.

        Of what other ranks hold no more is known than that it is alike.
        """
        found = torch.full_like(self.factors, nan).repeat(1, KINDS)
        squares = self.samples.sums([(self.before * self.before).sum(1)])[0]
        ranks = [torch.distributed.get_world_size(group) for group in self.groups]
        found[: len(squares), WW] = squares * self.samples.factors * prod(ranks)
        return found

    def checks(self) -> Float[Tensor, "4 some"]:
        """Return by what copies on other ranks are told from these."""
        w, g = self.after, self.gradients
        ones = torch.ones_like(w[:, 0])
        return self.samples.sums([w.sum(1), (w * w).sum(1), (g * g).sum(1), ROW * ones])

    def _swallowed(self, found: Tensor, seconds: Sequence[Second | None]) -> None:
        """Count the elements that move, and those of them that epsilon swallows."""
        there = {n: pair for n, pair in enumerate(seconds) if pair is not None}
        if not there:
            return
        if self.seconds is None:
            self.seconds = self.samples.room()
            self.cells = self.samples.places(self.seconds)
        self._copy(self.cells, {n: own(v) for n, (v, _) in there.items()})
        limits = [there[n][1] if n in there else 0.0 for n in range(len(self.names))]
        least = _beside(limits, self.seconds)[self.samples.owners][:, None]
        moving = self.seconds > 0
        counts = [(moving & (self.seconds < least)).sum(1), moving.sum(1)]
        found[: len(limits), SWALLOWED:] = self.samples.sums(counts).T


def _beside(numbers: Sequence[float | Tensor], like: Tensor) -> Tensor:
    """Return numbers, of which some are on the device of a tensor, as one beside it."""
    if not any(isinstance(n, Tensor) for n in numbers):
        there = torch.tensor(numbers, dtype=like.dtype, device="cpu")  # there it waits
        return there.to(like.device, non_blocking=True)
    return torch.stack([
        n.to(like) if isinstance(n, Tensor) else like.new_full((), n) for n in numbers
    ])


def own(t: Tensor) -> Tensor:
    """Return what this rank holds of a tensor, in real numbers."""
    there: Any = t.to_local() if hasattr(t, "to_local") else t  # pyright: ignore
    return torch.view_as_real(there) if there.is_complex() else there
