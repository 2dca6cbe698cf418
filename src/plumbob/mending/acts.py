"""What is done along directions that no output sees, as edits of single tensors.

A model in memory and a checkpoint that is read block by block get the same edits.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from plumbob.survey.carried import amounts, beside
from plumbob.survey.edit import Edit, common_part
from plumbob.survey.evaluate import Edits, Store, blocks, whole
from plumbob.survey.flow import Walk
from plumbob.survey.graph import Graph
from plumbob.survey.replay import fixed, inputs
from plumbob.survey.writable import writable

Given = Mapping[fx.Node, Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clear:
    """Rows become 0 that nothing sees; a running mean gives them up."""

    parameter: str
    rows: tuple[int, int]
    norm: str | None = None

    def edits(self, store: Store, done: Edits) -> Iterator[Edit]:
        """Yield what it does to tensors after what was done to them."""
        own = whole(store, self.parameter, done.get(self.parameter, ()))
        own = own[slice(*self.rows)]
        if own.any():
            if self.norm is not None:
                yield Edit(f"{self.norm}.running_mean", (0, len(own)), -own)
            yield Edit(self.parameter, self.rows)

    def __call__(self, model: nn.Module) -> None:
        """Do it to a model in place."""
        do(model, [self])


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """The common part of rows goes, of all or of each group; once is enough."""

    parameter: str
    rows: tuple[int, int]
    groups: int
    axis: int

    def edits(self, store: Store, done: Edits) -> Iterator[Edit]:
        """Yield what it does to tensors after what was done to them."""
        own = blocks(store, self.parameter, done.get(self.parameter, ()))
        eps = torch.finfo(store.dtype(self.parameter)).eps
        mean = common_part(own, self.rows, self.groups, self.axis, eps)
        if mean is not None:
            yield Edit(self.parameter, self.rows, -mean, self.axis)

    def __call__(self, model: nn.Module) -> None:
        """Do it to a model in place."""
        do(model, [self])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Rows become 0, and the parameters that can carry them take them over."""

    graph: Graph
    walk: Walk
    parameter: str
    rows: tuple[int, int]

    def edits(self, store: Store, done: Edits, read: Given) -> Iterator[Edit]:
        """Yield what it does after what was done; `read` is what lies on the way."""
        own = whole(store, self.parameter, done.get(self.parameter, ()))
        if not own[slice(*self.rows)].any():
            return
        found = amounts(
            self.graph, self.walk, read, store, done, self.parameter, self.rows
        )
        for carrier in {c.name: c for c in self.walk.carriers}.values():
            amount = found[carrier.name].reshape(-1)
            at = self.rows if carrier.kind == "rnn" else carrier.rows
            yield Edit(
                carrier.name,
                at or (0, store.shape(carrier.name)[0]),
                -amount if carrier.kind == "batch-norm" else amount,
            )
        yield Edit(self.parameter, self.rows)

    def __call__(self, model: nn.Module) -> None:
        """Do it to a model in place."""
        do(model, [self])


Act = Clear | Centre | Fold


def on_the_way(
    acts: Sequence[Act], store: Store, given: Callable[[Graph], Given]
) -> Given:
    """Return what folds read on their ways; what others do does not matter to them.

    Args:
        acts: to be done.
        store: of the parameters and buffers.
        given: returns the values of the inputs of a graph.
    """
    folds = [act for act in acts if isinstance(act, Fold)]
    if not folds:
        return {}
    graph, walks = folds[0].graph, [fold.walk for fold in folds]
    with torch.no_grad(), fixed():
        return beside(graph, walks, given(graph), store, {})


def planned(
    acts: Sequence[Act], store: Store, done: Edits, read: Given
) -> dict[str, list[Edit]]:
    """Return what acts do, one after the other, after what was done.

    Args:
        acts: to be done.
        store: of the parameters and buffers.
        done: what was done to these.
        read: what lies on the ways of folds.

    Raises:
        InputError: an amount is none, or another one for every input.
    """
    edits = {name: list(found) for name, found in done.items()}
    with torch.no_grad(), fixed():
        for act in sorted(acts, key=lambda act: not isinstance(act, Fold)):
            folds = isinstance(act, Fold)
            more = act.edits(store, edits, read) if folds else act.edits(store, edits)
            for edit in list(more):
                edits.setdefault(edit.name, []).append(edit)
    return edits


@torch.no_grad()
def do(model: nn.Module, acts: Sequence[Act]) -> None:
    """Do acts in place, all or none.

    Raises:
        InputError: a tensor cannot be written to, or an amount is none.
    """
    graphs = [act.graph for act in acts if isinstance(act, Fold)]
    store, buffers = _Held(model, graphs[:1]), dict(model.named_buffers())
    edits = planned(acts, store, {}, on_the_way(acts, store, partial(inputs, model)))
    into = {
        name: buffers[name] if name in buffers else writable(model, name, frozen=True)
        for name in edits
    }
    for name, tensor in into.items():
        tensor.copy_(whole(store, name, edits[name]))


class _Held:
    """The parameters and buffers of a model; those that went from its graph are 0."""

    def __init__(self, model: nn.Module, graphs: Iterable[Graph]) -> None:
        self.tensors: dict[str, Tensor] = {
            **dict(model.named_parameters(remove_duplicate=False)),
            **dict(model.named_buffers(remove_duplicate=False)),
        }
        for graph in graphs:
            for node in graph.module.graph.nodes:
                name = graph.parameters.get(node.name)
                if name is not None and name not in self.tensors:
                    like = next(model.parameters())
                    self.tensors[name] = like.new_zeros(node.meta["val"].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self.tensors[name].dtype

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def blocks(self, name: str) -> Iterator[tuple[int, Tensor]]:
        yield 0, self.tensors[name].detach()

    def rows(self, name: str, index: Tensor) -> Tensor:
        return self.tensors[name].detach()[index]
