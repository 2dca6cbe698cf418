"""What a step made of some parameters that lie on one device."""

from collections.abc import Mapping, Sequence
from math import nan, prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plumbob.survey.stream.samples import ROW, Samples

# The rows of what is measured: squares, products and counts, all of which add up.
KINDS = (
    "size",
    "change",
    "pull",
    "slope",
    "along",
    "moved",
    "swallowed",
    "moving",
    "gradient",
)
Second = tuple[Tensor, float | Tensor]


class Part:
    """The parameters of one optimiser on one device, in the order of `names`.

    Nothing here waits for the device.
    """

    def __init__(
        self,
        named: Mapping[str, Tensor],
        groups: Sequence[Any],
        start: Mapping[str, Tensor],
    ) -> None:
        # vectors first: how far they moved is read off the first rows
        ordered = sorted(named.items(), key=lambda item: item[1].ndim > 1)
        self.names = [name for name, _ in ordered]
        self.parameters = [p for _, p in ordered]
        self.groups = groups
        self.samples = Samples(self._values())
        self.before, self.places = self.samples.room()
        self.after, self.later = self.samples.room()
        self.gradients, self.slots = self.samples.room()
        self.seconds, self.cells = None, []
        self.vectors = vectors = sum(p.ndim < 2 for p in self.parameters)
        self.vector_rows = int((self.samples.owners < vectors).sum())
        room, places = self.samples.room()
        self._copy(
            places, {n: start[name] for n, name in enumerate(self.names[:vectors])}
        )
        self.start = room[: self.vector_rows].clone()
        self.norms: Tensor = torch.zeros_like(self.samples.factors)
        self.given: list[bool] = []
        self.sparse: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def _values(self) -> list[Tensor]:
        return [own(p.detach()) for p in self.parameters]

    def _copy(self, places: Sequence[Tensor], found: Mapping[int, Tensor]) -> None:
        samples = [self.samples.pick(n, t) for n, t in found.items()]
        if samples:
            torch._foreach_copy_([places[n] for n in found], samples)  # pyright: ignore

    def look(self) -> None:
        """Note the parameters before a step."""
        self._copy(self.places, dict(enumerate(self._values())))

    def sizes(self) -> Float[Tensor, "kinds some"]:
        """Return what was looked at; nothing is known of a step."""
        sums = self.samples.sums([(self.before * self.before).sum(1)])
        found = self.unknown()
        # of what other ranks hold no more is known than that it is alike
        ranks = [torch.distributed.get_world_size(group) for group in self.groups]
        found[0] = sums[0] * self.samples.factors * prod(ranks)
        return found

    def unknown(self) -> Float[Tensor, "kinds some"]:
        """Return what is measured where nothing could be."""
        factors = self.samples.factors
        return torch.full_like(factors, nan).repeat(len(KINDS), 1)

    def look_at_gradients(self, scale: Tensor | None = None) -> None:
        """Note the gradients, divided by `scale`, as the optimiser gets them."""
        grads = [p.grad for p in self.parameters]
        found = {n: own(g) for n, g in enumerate(grads) if g is not None}
        self.given = [g is not None for g in grads]
        self.sparse = {
            n: self._rows(n, g) for n, g in found.items() if g.layout != torch.strided
        }
        self.gradients.zero_()
        self.norms = torch.zeros_like(self.samples.factors)
        if not found:
            return
        self._copy(self.slots, {n: g for n, g in found.items() if n not in self.sparse})
        whole = [self.sparse[n][2] if n in self.sparse else g for n, g in found.items()]
        each = torch._foreach_norm(whole, 2, dtype=self.samples.dtype)  # pyright: ignore
        norms = torch.stack(each)
        if len(found) < len(grads):
            self.norms[list(found)] = norms.to(self.norms.dtype)
        else:
            self.norms = norms.to(self.norms.dtype)
        if scale is not None:
            self.gradients.div_(scale)
            self.norms.div_(scale)

    def _rows(self, number: int, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return which rows a sparse gradient names, their parameters, and it."""
        gradient = gradient.coalesce()
        rows = gradient.indices()[0]
        return rows, own(self.parameters[number].detach())[rows], gradient.values()

    def measure(self, seconds: Sequence[Second | None]) -> Float[Tensor, "kinds some"]:
        """Return what the step made of each parameter, a row for each of KINDS.

        `seconds` are the optimiser's second moments, each beside what the square of
        its epsilon is worth in them.
        """
        self._copy(self.later, dict(enumerate(self._values())))
        w, g, d = self.before, self.gradients, self.after - self.before
        pairs = ((w, w), (d, d), (w, g), (g, d), (w, d))
        rows = [(a * b).sum(1) for a, b in pairs]
        far = self.after[: self.vector_rows] - self.start
        moved = torch.zeros_like(rows[0])
        moved[: self.vector_rows] = (far * far).sum(1)
        rows.append(moved)
        rows += self._swallowed(seconds)
        sums = self.samples.sums(rows)
        sums[:6].mul_(self.samples.factors)
        found = torch.cat([sums, self.norms.square()[None]])
        for number, (at, old, grad) in self.sparse.items():
            new = own(self.parameters[number].detach())[at]
            change = (new - old).to(sums.dtype)
            w, g = old.to(sums.dtype), grad.to(sums.dtype)
            found[1:5, number] = torch.stack([
                (a * b).sum()
                for a, b in ((change, change), (w, g), (g, change), (w, change))
            ])
        found[5, self.vectors :] = nan
        return found

    def checks(self) -> Float[Tensor, "4 some"]:
        """Return by what copies on other ranks are told from these."""
        w, g = self.after, self.gradients
        ones = torch.ones_like(w[:, 0])
        return self.samples.sums([w.sum(1), (w * w).sum(1), (g * g).sum(1), ROW * ones])

    def _swallowed(self, seconds: Sequence[Second | None]) -> list[Tensor]:
        """Return how many elements of a row epsilon swallows, and of how many."""
        there = {n: pair for n, pair in enumerate(seconds) if pair is not None}
        if not there:
            none = torch.zeros_like(self.before[:, 0])
            return [none, none]
        if self.seconds is None:
            self.seconds, self.cells = self.samples.room()
        self._copy(self.cells, {n: own(v) for n, (v, _) in there.items()})
        limits = torch.zeros_like(self.samples.factors)
        for n, (_, limit) in there.items():
            limits[n] = limit
        least = limits.to(self.seconds.dtype)[self.samples.owners][:, None]
        moving = self.seconds > 0
        return [(moving & (self.seconds < least)).sum(1), moving.sum(1)]


def own(t: Tensor) -> Tensor:
    """Return what this rank holds of a tensor, in real numbers."""
    there: Any = t.to_local() if hasattr(t, "to_local") else t  # pyright: ignore
    return torch.view_as_real(there) if there.is_complex() else there
