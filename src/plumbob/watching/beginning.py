"""What is read off the first batch of a run: the graph, and what its loss can be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from torch import nn

from plumbob.survey.batches import Batch
from plumbob.survey.calls import strays
from plumbob.survey.guard import same_random
from plumbob.survey.loss_guard import loss_untouched
from plumbob.survey.modules import module_sites
from plumbob.survey.outcome import heads
from plumbob.survey.output import output_facts
from plumbob.survey.probe import probe
from plumbob.survey.stream.several import Several, spread
from plumbob.survey.structures import Structure, ours, read
from plumbob.types import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What `begin` found.

    `output` is of losses as the loop takes them, of a batch: where the loss is a sum
    those of a sample times the samples. `strays` are the parameters that a hook on
    their module does not see; None: nothing is known of the graph.
    """

    structure: Structure
    output: Output | None = None
    strays: frozenset[str] | None = None
    unseen: dict[str, str] = field(default_factory=dict[str, str])


def begin(
    model: nn.Module,
    batches: Sequence[Batch],
    loss: Callable[..., Any] | None,
    *,
    graph: bool = True,
) -> Beginning:
    """Trace the model on its first batch, and ask the loss; leave both as found.

    Args:
        model: as it trains, its watching hooks asleep.
        batches: the first ones.
        loss: of the loop, as loss(outputs, targets).
        graph: whether it is to be traced.

    Returns:
        What could be read; an error costs only what it hinders.
    """
    if why := _not_traced(model, batches, graph):
        built = Structure(sites=module_sites(model))
        return Beginning(structure=built, unseen={"graph": why, "targets": why})
    with same_random():  # a first import of torch's tracer draws from them
        try:
            built = read(model, batches[0])
            passed = [strays(model, graph) for graph in built.graphs.values()]
        except Exception as error:
            built = Structure(sites=module_sites(model))
            built.unseen["graph"] = ours(error)
            passed = []
        output, unseen = outputs(model, batches, built, loss)
    known = "graph" not in built.unseen
    return Beginning(
        structure=built,
        output=output,
        strays=frozenset().union(*passed) if known else None,
        unseen=built.unseen | unseen,
    )


def refined(
    start: Beginning,
    model: nn.Module,
    batches: Sequence[Batch],
    loss: Callable[..., Any] | None,
) -> Beginning:
    """Ask the loss again, where there are more batches than one."""
    asked = start.output is not None or start.strays is not None
    if not asked or len(batches) < 2:  # the first alone may have been too few samples
        return start
    found, _ = outputs(model, batches, start.structure, loss)
    return replace(start, output=found or start.output)


def _not_traced(model: nn.Module, batches: Sequence[Batch], graph: bool) -> str | None:
    if not graph:
        return "it was not asked for"
    if spread(model):
        return "a pass of it waits for other ranks"
    if isinstance(model, Several):
        return "several models are not traced together"
    if not batches:
        return "no batch was seen outside of compiled code, or it is too large to keep"
    return None


def outputs(
    model: nn.Module,
    batches: Sequence[Batch],
    built: Structure,
    loss: Callable[..., Any] | None,
) -> tuple[Output | None, dict[str, str]]:
    """Ask the loss of first batches what it is at the best constants; or say why not.

    Of few samples the best constant knows each: of 50 in ten classes its loss is 4 %
    too low, of 512 0.4 %.
    """
    if loss is None:
        return None, {"targets": "no loss given"}
    batches = [batch for batch in batches if batch.targets is not None]
    if not batches:
        return None, {"targets": "the loss was not called on what the model returned"}
    outer = heads(built.sites)
    try:
        with loss_untouched(loss, model):
            probed = probe(model, batches, outer, loss=loss, gradients=False)
            z = [
                (site, probed.net_inputs[site.name])
                for site in outer
                if site.name in probed.net_inputs
            ]
            found, why = output_facts(z, probed.outputs, probed.targets, loss)
            return found and _of_a_batch(found, probed.loss), why
    except Exception as error:
        return None, {"targets": ours(error)}


def _of_a_batch(output: Output, loss: float | None) -> Output:
    """Return the losses of a sample as those of a batch, which differ in a sum."""
    times = loss / output.loss if loss and output.loss else 1.0
    if 0.5 < times < 1.5 or not isfinite(times):  # rounding, or rows left out
        return output
    return replace(
        output,
        loss=output.loss * times,
        shifted=output.shifted * times,
        zero=output.zero * times,
        constant=output.constant * times,
        floor=None if output.floor is None else output.floor * times,
    )
