"""A model, and what the user has of data, loss and optimiser, to a survey."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain
from operator import length_hint
from typing import Any

import torch
from torch import nn

from plumbob.errors import InputError, did_you_mean
from plumbob.survey import structures
from plumbob.survey.about import about, digest
from plumbob.survey.batches import LIMIT, Batch, batches
from plumbob.survey.bounds import holds
from plumbob.survey.breaks import first_break
from plumbob.survey.graph import inner
from plumbob.survey.guard import same_random, untouched
from plumbob.survey.inputs import input_facts
from plumbob.survey.loss import loss_facts
from plumbob.survey.loss_guard import spares_loss
from plumbob.survey.optimizer import optimizer_facts
from plumbob.survey.outcome import heads
from plumbob.survey.output import output_facts
from plumbob.survey.overfit import overfit_facts
from plumbob.survey.probe import Probed, probe
from plumbob.survey.response import response
from plumbob.survey.scene import BEGUN, Scene
from plumbob.survey.settled import settled
from plumbob.survey.signals import signal_facts
from plumbob.survey.span import ones
from plumbob.survey.spectra import spectra
from plumbob.survey.stage import stages
from plumbob.survey.step import step_facts
from plumbob.survey.structures import Structure, ours
from plumbob.survey.trace import module_sites
from plumbob.survey.weights import matrices, weigh
from plumbob.types import Break, Needs, Output, Reading, Site, Stage, Survey

Makers = dict[str, Callable[[Scene], tuple[Any, str]]]

FACTS: Makers = {
    "inputs": input_facts,
    "loss": loss_facts,
    "signals": signal_facts,
    "step": step_facts,
}
# What a model on the meta device cannot show
VALUES = ("weights", "activations", "gradients", "inputs", "loss", "signals", "step")
HOLLOW = "no values (device meta)"


@same_random()  # a loader and a first import of torch's tracer draw from them
@spares_loss
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
    overfit: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Survey:
    """Measure everything that the given facts allow; leave no trace in the model.

    `keep` is the number of rows of z kept per site for pictures and quantiles (0: none,
    nor the weights themselves), `gradients` whether they are taken where a loss is
    known, `overfit` whether a few samples are learnt by heart on a copy, which takes a
    few hundred steps; the other arguments are those of `plumbob.check`.

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
    notes = about(model)
    begun: list[Batch] = []
    if data is None:
        unseen |= dict.fromkeys(("graph", "activations"), "no data given")
        built = Structure(sites=module_sites(model))
        probed, first = None, None
    else:
        every = batches(model, data, targets=targets, loss=loss, limit=limit)
        with closing(every) as feed:
            first = next(feed)
            tell("tracing the graph")
            built = structures.read(model, first)
            unseen |= built.unseen
            feed_again = _noted(chain([first], feed), begun)
            bar = _bar(_count(data, limit), tell)
            probed = _probe(model, feed_again, built.sites, loss, keep, gradients, bar)
    tell("weighing the parameters")
    probed_sites = probed.sites if probed else ()
    found = (*built.sites, *(s for s in probed_sites if s not in built.sites))
    tensors, rows, unweighed = weigh(model, found)
    stage_of = stages(model, found, optimizer, said)
    output, why_not = _output(probed, found, loss)
    hollow = all(parameter.is_meta for parameter in model.parameters())
    unseen |= (dict.fromkeys(VALUES, HOLLOW) if hollow else unweighed) | why_not
    if probed:
        unseen |= probed.unseen
        notes["samples"] = probed.samples
        if probed.loss is not None:
            notes["loss"] = probed.loss
    found = tuple(replace(s, stage=stage_of.get(s.name, s.stage)) for s in found)
    readings = dict(probed.readings) if probed else {}
    for site in found if built.passed_by else ():
        if site.name in readings and {site.weight, site.bias} & built.passed_by:
            readings[site.name] = replace(readings[site.name], called=False)
    for name, most in built.ceilings.items():
        reading = readings.get(name, Reading())
        if holds(most, reading.z):
            readings[name] = replace(reading, ceiling=most)
    sums_of = ones(model, built.graphs.values(), first, found) if first else {}
    for name, sums in sums_of.items():
        readings[name] = replace(readings.get(name, Reading()), ones=sums)
    for name, row in rows.items():
        readings[name] = replace(readings.get(name, Reading()), rows=row)
    for name, spectrum in spectra(model, found).items():
        readings[name] = replace(readings[name], spectrum=spectrum)
    for name, weight in (matrices(model, found) if keep else {}).items():
        readings[name] = replace(readings.get(name, Reading()), weight=weight)
    if probed and probed.loss is None:
        unseen.setdefault("gradients", "no loss given")
    facts = optimizer_facts(optimizer, model) if optimizer is not None else None
    if facts is None:
        unseen["optimizer"] = "none given"
    if not tensors:
        unseen["spectra"] = "the parameters hold no values"
    more: dict[str, Any] = {}
    if probed and first is not None and keep:
        more, why = response(model, first, found, built.bends, tensors)
        unseen |= why
    if probed and first is not None and gradients:
        own = loss is None
        scene = Scene(
            model=model,
            batch=first,
            begun=tuple(begun),
            probed=probed,
            sites=found,
            graphs=built.graphs,
            loss=probed.own_loss if own else loss,
            given=not own,
            optimizer=optimizer,
            output=output,
            said=said,
            trained=said is Stage.TRAINED or bool(facts and facts.steps),
        )
        dear: Makers = {"overfit": partial(overfit_facts, tell=tell)} if overfit else {}
        more |= _facts(scene, FACTS | dear, unseen, tell)
        more["first_break"] = _first_break(scene, loss, unseen)
    known = _known(unseen, probed, found, facts is not None, output, more)
    return Survey(
        sites=found,
        known=known,
        readings=readings,
        tensors=tensors,
        proofs=built.proofs,
        settled=settled(model, built.proofs),
        gradients=probed.gradients if probed else {},
        optimizer=facts,
        output=output,
        unseen=unseen,
        bends=built.bends,
        said=said or Stage.UNKNOWN,
        about=notes | {"digest": digest(tensors)},
        **more,
    )


def _facts(
    scene: Scene, makers: Makers, unseen: dict[str, str], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measure what builds on the trace and the run; each costs only itself."""
    found: dict[str, Any] = {}
    for name, facts in makers.items():
        tell(f"measuring the {name}")
        try:
            with untouched(scene.model), same_random():
                found[name], why = facts(scene)
        except Exception as error:
            found[name], why = None, ours(error)
        if why:
            unseen[name if found[name] is None else f"{name}, in part"] = why
    return found


def _first_break(
    scene: Scene, loss: Callable[..., Any] | None, unseen: dict[str, str]
) -> Break | None:
    """Look for the origin of what is not finite, where something is."""
    z = (reading.z for reading in scene.probed.readings.values())
    broken = scene.probed.broken
    if broken is None and not any(m is not None and m.nonfinite.any() for m in z):
        return None
    try:
        found = first_break(scene.model, broken or scene.batch, loss)
    except Exception as error:
        found, why = None, ours(error)
    else:
        why = "what was not finite is finite when it is computed again"
    if found is None:
        unseen["the origin of what is not finite"] = why
    return found


def _noted(feed: Iterator[Batch], begun: list[Batch]) -> Iterator[Batch]:
    """Pass batches on, and keep the first ones, of BEGUN samples at most."""
    room = BEGUN
    for batch in feed:
        if not begun or batch.samples <= room:
            begun.append(batch)
        room -= batch.samples
        yield batch


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
    try:
        return output_facts(z, probed.outputs, probed.targets, loss)
    except Exception as error:
        return None, {"targets": ours(error)}


def _known(
    unseen: Mapping[str, str],
    probed: Probed | None,
    found: tuple[Site, ...],
    has_optimizer: bool,
    output: Output | None,
    more: Mapping[str, Any],
) -> Needs:
    facts = {
        **{
            Needs[name.upper()]: more.get(name) is not None
            for name in (*FACTS, "overfit")
        },
        Needs.WEIGHTS: "weights" not in unseen,
        Needs.SPECTRA: "spectra" not in unseen,
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
