"""A model, and what the user has of data, loss and optimiser, to a survey."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain
from operator import length_hint
from typing import Any

import torch
from torch import nn

from plumbob.errors import InputError, did_you_mean
from plumbob.survey.batches import LIMIT, Batch, batches
from plumbob.survey.calls import strays
from plumbob.survey.graph import inner
from plumbob.survey.guard import same_random
from plumbob.survey.optimizer import optimizer_facts
from plumbob.survey.outcome import heads
from plumbob.survey.output import output_facts
from plumbob.survey.probe import Probed, probe
from plumbob.survey.shift import proofs
from plumbob.survey.stage import stages
from plumbob.survey.trace import Graph, export, module_sites, structure
from plumbob.survey.weights import matrices, weigh
from plumbob.types import Census, Needs, Output, Proof, Reading, Site, Stage, Survey

# Inputs that the graph is traced with; batch norm maps any two values to +-1, which
# would hide a wrong theorem.
FEW = 4


@same_random()  # a loader and a first import of torch's tracer draw from them
def measure(
    model: Any,
    data: Any = None,
    *,
    targets: Any = None,
    loss: Callable[..., Any] | None = None,
    optimizer: Any = None,
    stage: Stage | str | None = None,
    limit: int | None = None,
    keep: int = 0,
    gradients: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Survey:
    """Measure everything that the given facts allow; leave no trace in the model.

    `keep` is the number of rows of z kept per site for pictures and quantiles (0: none,
    nor the weights themselves), `gradients` whether they are taken where a loss is
    known; the other arguments are those of `plumbob.check`.

    Raises:
        InputError: the model, data, loss or optimiser cannot be used as given.
    """
    model = _module(model)
    _check_loss(loss)
    if keep < 0:
        raise InputError(f"expected to keep 0 rows of z or more, got {keep}")
    said = _stage(stage)
    tell = progress or _silence
    unseen: dict[str, str] = {}
    about = _about(model)
    if data is None:
        unseen |= dict.fromkeys(("graph", "activations"), "no data given")
        found: tuple[Site, ...] = module_sites(model)
        bends: tuple[str, ...] = ()
        proved: tuple[Proof, ...] = ()
        passed_by = set[str]()
        probed = None
    else:
        every = batches(model, data, targets=targets, loss=loss, limit=limit)
        with closing(every) as feed:
            first = next(feed)
            tell("tracing the graph")
            found, bends, proved, passed_by, why = _structure(model, first)
            unseen |= why
            feed_again = chain([first], feed)
            bar = _bar(_count(data, limit), tell)
            probed = _probe(model, feed_again, found, loss, keep, gradients, bar)
    tell("weighing the parameters")
    probed_sites = probed.sites if probed else ()
    found = (*found, *(s for s in probed_sites if s not in found))
    tensors, rows, unweighed = weigh(model, found)
    stage_of = stages(model, found, optimizer, said)
    output, why_not = _output(probed, found, loss)
    unseen |= unweighed | why_not
    if probed:
        unseen |= probed.unseen
        about["samples"] = probed.samples
        if probed.loss is not None:
            about["loss"] = probed.loss
    found = tuple(replace(s, stage=stage_of.get(s.name, s.stage)) for s in found)
    readings = dict(probed.readings) if probed else {}
    for site in found if passed_by else ():
        if site.name in readings and {site.weight, site.bias} & passed_by:
            readings[site.name] = replace(readings[site.name], called=False)
    for name, row in rows.items():
        readings[name] = replace(readings.get(name, Reading()), rows=row)
    for name, weight in (matrices(model, found) if keep else {}).items():
        readings[name] = replace(readings.get(name, Reading()), weight=weight)
    if probed and probed.loss is None:
        unseen.setdefault("gradients", "no loss given")
    facts = optimizer_facts(optimizer, model) if optimizer is not None else None
    if facts is None:
        unseen["optimizer"] = "none given"
    known = _known(unseen, probed, found, facts is not None, output)
    return Survey(
        sites=found,
        known=known,
        readings=readings,
        tensors=tensors,
        proofs=proved,
        gradients=probed.gradients if probed else {},
        optimizer=facts,
        output=output,
        unseen=unseen,
        bends=bends,
        said=said or Stage.UNKNOWN,
        about=about | {"digest": _digest(tensors)},
    )


def _silence(line: str) -> None:
    """Tell nobody."""


def _module(model: Any) -> nn.Module:
    """Return the module itself, a compiled one unwrapped.

    Raises:
        InputError: it is no module, has no parameters, or they have no shape yet.
    """
    model = inner(model)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"expected a torch.nn.Module, got {_named(model)}; pass the model "
            "itself, or the path of a safetensors file"
        )
    parameters = dict(model.named_parameters())
    if not parameters:
        raise InputError(
            f"{type(model).__name__} has no parameters, so there is nothing to weigh; "
            "register its tensors with nn.Parameter or its layers with nn.ModuleList; "
            "of a quantised model check the original"
        )
    for name, parameter in parameters.items():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise InputError(
                f"{name} has no shape yet; run one batch through the model first"
            )
    return model


def _check_loss(loss: Any) -> None:
    """Refuse what cannot be called as loss(outputs, targets).

    Raises:
        InputError: it is no function, or a class.
    """
    if loss is not None and (isinstance(loss, type) or not callable(loss)):
        raise InputError(
            f"expected a loss called as loss(outputs, targets), got {_named(loss)}; "
            "pass a function, or an instance such as nn.CrossEntropyLoss()"
        )


def _named(thing: Any) -> str:
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return type(thing).__name__


def _stage(stage: Stage | str | None) -> Stage | None:
    if stage is None or isinstance(stage, Stage):
        return stage
    names = [s.value for s in Stage]
    if stage not in names:
        raise InputError(
            f"expected a stage of {', '.join(names)}, got {stage!r}."
            + did_you_mean(str(stage), names)
        )
    return Stage(stage)


def _structure(
    model: nn.Module, batch: Batch
) -> tuple[
    tuple[Site, ...], tuple[str, ...], tuple[Proof, ...], set[str], dict[str, str]
]:
    """Trace the training and the inference graph; fall back on the modules alone.

    The mode that the model is not in may fail: batch norm cannot train on one sample.
    """
    graphs: dict[bool, Graph] = {}
    unseen: dict[str, str] = {}
    for training in (not model.training, model.training):
        mode = "training" if training else "inference"
        try:
            graphs[training] = _graph(model, batch, training=training)
        except InputError as error:
            unseen[f"graph in {mode}"] = str(error)
    if (graph := graphs.get(model.training)) is None:
        return module_sites(model), (), (), set(), {"graph": " ".join(unseen.values())}
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
        return module_sites(model), (), (), set(), {"graph": _ours(error)}
    try:
        proved = proofs(model, graphs.get(True), graphs.get(False))
    except Exception as error:
        return found, bends, (), passed_by, {"graph": _ours(error)}
    return found, bends, proved, passed_by, unseen


def _ours(error: Exception) -> str:
    return (
        f"plumbob could not follow it: {type(error).__name__}: {error}; please report"
    )


def _graph(model: nn.Module, batch: Batch, *, training: bool) -> Graph:
    """Export on a few inputs, or on all where the model needs them.

    The replays of the proofs compute what the graph computes, so fewer are quicker.
    """
    few = batch.few(FEW)
    if few is not batch:
        with suppress(InputError):  # a model of pairs, say; all inputs may do
            graph = export(model, few.args, few.kwargs, training=training)
            if not graph.on_this_path:
                return graph
    return export(model, batch.args, batch.kwargs, training=training)


def _probe(
    model: nn.Module,
    feed: Iterator[Batch],
    found: tuple[Site, ...],
    loss: Callable[..., Any] | None,
    keep: int,
    gradients: bool,
    on_batch: Callable[[int], None],
) -> Probed | None:
    if any(p.is_meta for p in model.parameters()):
        return None
    return probe(
        model,
        feed,
        found,
        loss=loss,
        keep=keep,
        gradients=gradients,
        on_batch=on_batch,
    )


def _count(data: Any, limit: int | None) -> int:
    """Return how many batches are to come, at most."""
    if isinstance(data, torch.Tensor | tuple | Mapping):
        return 1
    return max(1, min(limit or LIMIT, length_hint(data, LIMIT)))


def _bar(total: int, tell: Callable[[str], None]) -> Callable[[int], None]:
    def draw(count: int) -> None:
        done = 20 * min(count, total) // total
        tell(f"measuring {'█' * done}{'░' * (20 - done)} batch {count} of {total}")

    return draw


def _output(
    probed: Probed | None,
    found: tuple[Site, ...],
    loss: Callable[..., Any] | None,
) -> tuple[Output | None, dict[str, str]]:
    """Measure the output's bias where the loss and the targets are at hand."""
    if probed is None:
        return None, {"targets": "nothing was run"}
    loss = loss or probed.own_loss
    if loss is None:
        why = (
            "the model takes its loss itself, in a way that is not recognised; give "
            "the loss and (inputs, targets)"
        )
        return None, {"targets": "no loss given" if probed.loss is None else why}
    z = [
        (h, probed.net_inputs[h.name])
        for h in heads(found)
        if h.name in probed.net_inputs
    ]
    return output_facts(z, probed.outputs, probed.targets, loss)


def _known(
    unseen: Mapping[str, str],
    probed: Probed | None,
    found: tuple[Site, ...],
    has_optimizer: bool,
    output: Output | None,
) -> Needs:
    facts = {
        Needs.WEIGHTS: True,
        Needs.GRAPH: "graph" not in unseen,
        Needs.ACTIVATIONS: probed is not None,
        Needs.GRADIENTS: probed is not None and bool(probed.gradients),
        Needs.TARGETS: output is not None,
        Needs.OPTIMIZER: has_optimizer,
        Needs.STAGE: any(site.stage is not Stage.UNKNOWN for site in found),
    }
    known = Needs(0)
    for need, fact in facts.items():
        known |= need if fact else Needs(0)
    return known


def _about(model: nn.Module) -> dict[str, str | int | float]:
    parameters = list(model.parameters())
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in parameters})
    return {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in parameters),
        "dtype": ", ".join(dtypes),
        "mode": "training" if model.training else "evaluation",
        "torch": torch.__version__,
        "seed": str(torch.initial_seed()),
    }


def _digest(tensors: Mapping[str, Census]) -> str:
    """Return a fingerprint of names, shapes and moments: the same model, the same."""
    text = "\n".join(
        f"{name} {c.shape} {c.dtype} {c.mean!r} {c.var!r}"
        for name, c in sorted(tensors.items())
    )
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
