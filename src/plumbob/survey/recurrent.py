"""The net input of recurrent cells: the sum of their input map and recurrent map."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from plumbob.survey.parts import storage
from plumbob.types import Site

aten = torch.ops.aten

# What each block of rows is called, and the activation that reads it. The new gate of
# a GRU reads i + reset * h, of which only i and h are affine.
GATES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "RNN_TANH": (("", "tanh"),),
    "RNN_RELU": (("", "relu"),),
    "LSTM": (
        ("input", "sigmoid"),
        ("forget", "sigmoid"),
        ("cell", "tanh"),
        ("output", "sigmoid"),
    ),
    "GRU": (("reset", "sigmoid"), ("update", "sigmoid"), ("new", "tanh")),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One direction of one layer: its two weights, its biases, its kind in GATES."""

    name: str
    kind: str
    weights: tuple[str, str]
    biases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """z of one map of a cell, held so that its memory is not given to another."""

    cell: Cell
    z: Tensor


@dataclass(slots=True)
class Sums:
    """Finds where the two maps of a cell are added up."""

    cells: Mapping[str, Cell]  # by either weight
    terms: dict[tuple[str, int], Term] = field(default_factory=dict[Any, Term])

    def note(self, weight: str, z: Tensor) -> None:
        """Remember what a map of a cell gave last."""
        cell = self.cells.get(weight)
        if cell is not None:
            self.terms[cell.name, cell.weights.index(weight)] = Term(cell, z)

    def seen(
        self, func: Any, args: Any, out: Any
    ) -> Iterator[tuple[Cell, int, Tensor]]:
        """Yield each gate's net input that an operation adds up, by its number.

        The new gate of a GRU is a sum of one part of the input map and a product.
        """
        if func not in ADDS or len(args) < 2:
            return
        for a, b in (args[:2], args[1::-1]):
            term, other = self._of(a), self._of(b)
            if term is None or not isinstance(b, Tensor):
                continue
            gates, units = GATES[term.cell.kind], term.z.shape[-1]
            width = units // len(gates)
            first = (a.storage_offset() - term.z.storage_offset()) % units // width
            new = other is None and gates[first][0] == "new"
            if new or (other is not None and other.cell == term.cell):
                for i, z in enumerate(out.split(width, -1)):
                    yield term.cell, first + i, z
                return

    def added(
        self, weight: str, one: Tensor, two: Tensor
    ) -> Iterator[tuple[Cell, int, Tensor]]:
        """Yield each gate's net input, given what the two maps of a cell gave."""
        if cell := self.cells.get(weight):
            gates = GATES[cell.kind]
            for i, z in enumerate((one + two).chunk(len(gates), -1)):
                if gates[i][0] != "new":
                    yield cell, i, z

    def forget(self) -> None:
        """Drop what is held of a batch."""
        self.terms.clear()

    def _of(self, t: Any) -> Term | None:
        if not isinstance(t, Tensor) or not self.terms:
            return None
        key = storage(t)
        return next((k for k in self.terms.values() if storage(k.z) == key), None)


ADDS = {aten.add.Tensor, aten.add_.Tensor}


def cells(model: nn.Module) -> dict[str, Cell]:
    """Return the cells of torch's recurrent layers by the names of their weights."""
    found: dict[str, Cell] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            ways = ("", "_reverse")[: 1 + module.bidirectional]
            ends = [f"_l{i}{way}" for i in range(module.num_layers) for way in ways]
            kind = module.mode
        elif isinstance(module, nn.RNNCellBase):
            ends, kind = [""], type(module).__name__.removesuffix("Cell").upper()
            if isinstance(module, nn.RNNCell):
                kind = f"RNN_{module.nonlinearity}".upper()
        else:
            continue
        own = {name for name, _ in module.named_parameters(recurse=False)}
        for end in ends if kind in GATES else ():
            names = [f"weight_ih{end}", f"weight_hh{end}"]
            biases = [n for n in (f"bias_ih{end}", f"bias_hh{end}") if n in own]
            if own.issuperset(names):  # else they are computed (weight norm)
                here = [f"{path}.{n}".lstrip(".") for n in (*names, *biases)]
                cell = Cell(
                    f"{path}.{end.lstrip('_')}".strip("."),
                    kind,
                    (here[0], here[1]),
                    tuple(here[2:]),
                )
                found |= dict.fromkeys(cell.weights, cell)
    return found


def gate_site(cell: Cell, number: int, model: nn.Module) -> Site:
    """Return the site of a gate's net input; its weights are those of two others."""
    name, activation = GATES[cell.kind][number]
    both = [model.get_parameter(w) for w in cell.weights]
    out = len(both[0]) // len(GATES[cell.kind])
    return Site(
        name=f"{cell.name}.{name}".strip(".") or "cell",
        kind="recurrent-sum",
        out=out,
        fan_in=sum(w.shape[1] for w in both),
        weight="",
        rows=(number * out, (number + 1) * out),
        fed_by=cell.weights,
        activation=activation,
        trainable=any(w.requires_grad for w in both),
        gates=cell.kind in {"LSTM", "GRU"},
    )


def gate_bias(cell: Cell, number: int, model: nn.Module) -> Tensor | None:
    """Return the bias that both maps add to a gate; None where it is not their sum."""
    if GATES[cell.kind][number][0] == "new":
        return None
    w = model.get_parameter(cell.weights[0])
    out = len(w) // len(GATES[cell.kind])
    total = torch.zeros(out, dtype=torch.float64)
    for name in cell.biases:
        bias = model.get_parameter(name).detach().double().cpu()
        total += bias[number * out : (number + 1) * out]
    return total
