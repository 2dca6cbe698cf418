"""An oracle of the proofs that shares no code with them.

Directions are tried on the model itself, in float64 at random parameters, by the
Jacobian of its outputs over all vectors, or over those whose names have one ending:
what it does not see is its null space.
"""

import torch
from torch.utils import _pytree as pytree

from plumbob.survey.graph import tensors


def randomised(model, seed=0):
    """Draw all parameters anew, matrices at the scale of what they multiply."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            drawn = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.copy_(drawn / (p.numel() / max(p.shape)) ** 0.5 if p.ndim > 1 else drawn)
    return model.double()


def doubles(args):
    """Return inputs in float64, whole numbers as they are."""
    return pytree.tree_map_only(
        torch.Tensor, lambda t: t.double() if t.is_floating_point() else t, args
    )


class Jacobian:
    """The derivatives of all outputs over all vectors: {name: (outputs, rows)}."""

    def __init__(self, model, *args, only="", **kwargs):
        vectors = {
            name: p
            for name, p in model.named_parameters()
            if p.ndim == 1 and name.endswith(only)
        }
        torch.manual_seed(0)  # dropout
        out = model(*doubles(args), **doubles(kwargs))
        flat = torch.cat([t.flatten() for t in tensors(out) if t.is_floating_point()])
        most = sum(p.numel() for p in vectors.values()) + 16
        if flat.numel() > most:  # as many random sums see the same null space
            generator = torch.Generator().manual_seed(1)
            probe = torch.randn(most, flat.numel(), generator=generator).double()
            flat = probe @ flat
        rows = [
            torch.autograd.grad(
                y, list(vectors.values()), retain_graph=True, allow_unused=True
            )
            for y in flat
        ]
        self.columns = {
            name: torch.stack([
                torch.zeros_like(p) if r[i] is None else r[i] for r in rows
            ])
            for i, (name, p) in enumerate(vectors.items())
        }
        self.scale = float(self.of(vectors).norm(dim=0).max()) or 1.0

    def of(self, names):
        return torch.cat([self.columns[name] for name in names], 1)

    @property
    def nullity(self):
        every = self.of(self.columns)
        values = torch.linalg.svdvals(every)
        return every.shape[1] - int((values > values[0] * 1e-10).sum())

    def moves(self, proof):
        """Return the change of the outputs by each move that a proof is about."""
        lo, hi = proof.rows
        mine = self.columns[proof.parameter][:, lo:hi]
        width = {"each": 1, "group": (hi - lo) // proof.groups}
        runs = mine.split(width.get(proof.direction, hi - lo), dim=1)
        return torch.stack([run.sum(1) for run in runs], 1)

    def error(self, proof, verdict):
        """Return how much of a proof's moves its carriers cannot make up for."""
        moved = self.moves(proof)
        assert moved.shape[1] == proof.directions
        if verdict == "gauge":
            carriers = self.of([c for c in proof.carriers if c in self.columns])
            moved = (
                moved
                - carriers
                @ torch.linalg.lstsq(carriers, moved, driver="gelsd").solution
            )
        return float(moved.abs().max()) / self.scale
