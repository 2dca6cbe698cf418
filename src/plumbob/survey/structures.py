"""The graphs of a model, and what is read off them."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.batches import Batch
from plumbob.survey.bounds import ceilings
from plumbob.survey.calls import strays
from plumbob.survey.flow import Walk
from plumbob.survey.lighter import lighter
from plumbob.survey.shift import theorems
from plumbob.survey.trace import Graph, export, module_sites, structure
from plumbob.types import Proof, Site

# Inputs that the graph is traced with; batch norm maps any two values to +-1, which
# would hide a wrong theorem.
FEW = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """Sites and theorems; `graphs` are by mode (True: training), where they trace.

    `walks` are what proves a theorem in a mode. `passed_by` are the parameters that a
    hook on their module does not see.
    """

    sites: tuple[Site, ...]
    graphs: dict[bool, Graph] = field(default_factory=dict[bool, Graph])
    ceilings: dict[str, Float[Any, " out"]] = field(
        default_factory=dict[str, Float[Any, " out"]]
    )
    bends: tuple[str, ...] = ()
    walks: dict[Proof, dict[str, Walk]] = field(
        default_factory=dict[Proof, dict[str, Walk]]
    )
    passed_by: frozenset[str] = frozenset()
    unseen: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """The theorems."""
        return tuple(self.walks)


def read(model: nn.Module, batch: Batch) -> Structure:
    """Trace the training and the inference graph; fall back on the modules alone.

    The mode that the model is not in may fail: batch norm cannot train on one sample.
    """
    graphs: dict[bool, Graph] = {}
    unseen: dict[str, str] = {}
    for training in (not model.training, model.training):
        mode = "training" if training else "inference"
        try:
            other = graphs.get(not training)
            graphs[training] = _graph(model, batch, training=training, other=other)
        except InputError as error:
            unseen[f"graph in {mode}"] = str(error)
    return _judged(model, graphs, unseen)


def read_again(
    model: nn.Module, before: Structure, gone: Collection[str]
) -> Structure | None:
    """Read a model that has only lost parameters since, without tracing it again.

    None where it has to be traced: an operation cannot do without what is gone.
    """
    graphs = {
        training: found
        for training, graph in before.graphs.items()
        if (found := lighter(graph, gone)) is not None
    }
    if len(graphs) < len(before.graphs):
        return None
    return _judged(model, graphs, dict(before.unseen))


def _judged(
    model: nn.Module, graphs: dict[bool, Graph], unseen: dict[str, str]
) -> Structure:
    if (graph := graphs.get(model.training)) is None:
        why = {"graph": " ".join(unseen.values())}
        return Structure(sites=module_sites(model), unseen=why)
    if any(g.on_this_path for g in graphs.values()):
        unseen["other paths"] = (
            "the model does not export, so its graph is that of one recorded run"
        )
    # The model runs: what fails from here on is our reading of it, which must cost
    # neither the weights nor the activations their verdict.
    try:
        found, bends = structure(model, graph)
        # what is read in the mode that is run is seen there, under autocast too, where
        # the graph knows of no calls
        other = graphs.get(not model.training)
        passed_by = strays(model, other) - strays(model, graph) if other else set()
    except Exception as error:
        return Structure(sites=module_sites(model), unseen={"graph": ours(error)})
    try:
        proved = theorems(model, graphs.get(True), graphs.get(False))
    except Exception as error:
        proved, unseen = {}, {"graph": ours(error)}
    try:
        most = _ceilings(model, graphs)
    except Exception as error:
        most, unseen = {}, unseen | {"bounds": ours(error)}
    return Structure(
        sites=found,
        ceilings=most,
        graphs=graphs,
        bends=bends,
        walks=proved,
        passed_by=frozenset(passed_by),
        unseen=unseen,
    )


def _ceilings(
    model: nn.Module, graphs: dict[bool, Graph]
) -> dict[str, Float[Any, " out"]]:
    """Return what bounds the units of a site in training and in inference."""
    if len(graphs) < 2:
        return {}
    one, two = (ceilings(model, graph) for graph in graphs.values())
    return {name: np.maximum(one[name], two[name]) for name in one.keys() & two.keys()}


def ours(error: Exception) -> str:
    """Say that an error is plumbob's own."""
    return (
        f"plumbob could not follow it: {type(error).__name__}: {error}; please report"
    )


def _graph(
    model: nn.Module, batch: Batch, *, training: bool, other: Graph | None
) -> Graph:
    """Export on a few inputs, or on all where the model needs them.

    The replays of the proofs compute what the graph computes, so fewer are quicker.
    """
    few = batch.few(FEW)
    if few is not batch:
        with suppress(InputError):  # a model of pairs, say; all inputs may do
            graph = export(model, few.args, few.kwargs, training=training, other=other)
            if not graph.on_this_path:
                return graph
    return export(model, batch.args, batch.kwargs, training=training, other=other)
