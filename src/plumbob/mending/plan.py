"""What rewrites see: the model, its structure, and what it is mended for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from plumbob.survey.batches import Batch
from plumbob.survey.flow import Walk
from plumbob.survey.graph import NORMS, Graph
from plumbob.survey.shift import offsets
from plumbob.survey.structures import Structure, read, read_again
from plumbob.types import Mode, Proof, independent


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A model that is to be mended, and what was proved of it."""

    model: nn.Module
    batch: Batch
    structure: Structure
    goal: Mode
    built: Mapping[tuple[str, str], Any] = field(
        default_factory=dict[tuple[str, str], Any]
    )

    @property
    def graph(self) -> Graph | None:
        """The graph that is mended for inference, None where this is not the goal."""
        found = self.structure.graphs.get(False)
        return found if self.goal == "inference" else None

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


def planned(
    model: nn.Module, batch: Batch, goal: Mode, last: Plan | None = None
) -> Plan:
    """Read what there is to mend; `last` is the plan of the model before a rewrite.

    Theorems hold for all values, so nothing is read again where only these changed, and
    nothing traced again where parameters are gone that the graph does without.
    """
    built, structure = _built(model), None
    if last is not None and built == last.built:
        return last
    if last is not None and built.items() <= last.built.items():
        gone = last.built.keys() - built.keys()
        if all(kind == _OWN for kind, _ in gone):
            structure = read_again(model, last.structure, {name for _, name in gone})
    return Plan(
        model=model,
        batch=batch,
        structure=structure or read(model, batch),
        goal=goal,
        built=built,
    )


_OWN = "parameter"


def _built(model: nn.Module) -> dict[tuple[str, str], Any]:
    """Return what tracing depends on but for values: what there is, and its kind."""
    modules = {("module", n): _kind(m) for n, m in model.named_modules()}
    parameters = {(_OWN, name): p.shape for name, p in model.named_parameters()}
    buffers = {("buffer", name): b.shape for name, b in model.named_buffers()}
    return modules | parameters | buffers


def _kind(module: nn.Module) -> tuple[Any, ...]:
    """Return what a module is, but for which parameters it has.

    A norm that is wholly frozen stays out of training.
    """
    flags = ("bias=", "elementwise_affine=")
    said = [w for w in module.extra_repr().split(", ") if not w.startswith(flags)]
    own = list(module.parameters(recurse=False)) if isinstance(module, NORMS) else []
    frozen = bool(own) and not any(p.requires_grad for p in own)
    hooks = (*module._forward_pre_hooks, *module._forward_hooks)  # pyright: ignore[reportPrivateUsage]
    return type(module), said, frozen, hooks
