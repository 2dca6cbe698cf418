"""What rewrites see: the model, its structure, and what it is mended for."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from plumbob.survey.batches import Batch
from plumbob.survey.flow import Walk
from plumbob.survey.shift import offsets
from plumbob.survey.structures import Structure
from plumbob.types import Mode, Proof, independent


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A model that is to be mended, and what was proved of it."""

    model: nn.Module
    batch: Batch
    structure: Structure
    goal: Mode

    @cached_property
    def proofs(self) -> tuple[Proof, ...]:
        """The theorems that count for the goal, none said twice.

        For training only what is null there is; it must be null in inference too, or
        have a running mean to go to.
        """
        if self.goal == "inference":
            return independent(self.structure.proofs, "inference")
        return tuple(
            proof
            for proof in self.structure.proofs
            if proof.training == "null" and (proof.inference == "null" or proof.norm)
        )

    @cached_property
    def offsets(self) -> dict[Proof, dict[str, Walk]]:
        """What can be added to all units of a weight or bias alike and is not seen.

        Beside each theorem stand the walks that prove it, by mode.
        """
        graphs = self.structure.graphs
        found = offsets(self.model, graphs.get(True), graphs.get(False))
        return {
            proof: walks
            for proof, walks in found.items()
            if proof.inference == "null"
            and (self.goal == "inference" or proof.training == "null")
        }

    def walks(self, proof: Proof) -> dict[str, Walk]:
        """Return what proves a theorem, by mode."""
        return self.structure.walks.get(proof) or self.offsets[proof]

    def common(self, *by: str) -> Iterator[Proof]:
        """Yield which common parts, of all rows or of each group, nothing sees."""
        for direction in ("constant", "group"):
            yield from self.null(*by, direction=direction)
        known = {p.parameter for p in self.proofs if getattr(p, self.goal) == "null"}
        for proof in self.offsets:
            if proof.by in by and proof.parameter not in known:
                yield proof

    def null(self, *by: str, direction: str = "each") -> Iterator[Proof]:
        """Yield what nothing sees."""
        for proof in self.proofs:
            null = getattr(proof, self.goal) == "null"
            if null and proof.by in by and proof.direction == direction:
                yield proof

    def gauges(self) -> Iterator[Proof]:
        """Yield what other parameters can carry for every input."""
        for proof in self.proofs:
            if proof.inference == "gauge" and proof.direction == "each":
                yield proof
