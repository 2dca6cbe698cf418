"""What rewrites see: the model, its structure, and what it is mended for."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from plumbob.survey.batches import Batch
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
