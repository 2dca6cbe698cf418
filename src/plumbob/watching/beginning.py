"""What is read off the first batch of a run: the graph, and what its loss can be."""

from collections.abc import Callable
from dataclasses import dataclass, field
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
from plumbob.survey.structures import Structure, ours, read
from plumbob.types import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """`strays` are the parameters that a hook on their module does not see.

    None: nothing is known of the graph.
    """

    structure: Structure
    output: Output | None = None
    strays: frozenset[str] | None = None
    unseen: dict[str, str] = field(default_factory=dict[str, str])


def begin(
    model: nn.Module, batch: Batch | str, loss: Callable[..., Any] | None
) -> Beginning:
    """Trace the model on its first batch, and ask the loss; leave both as found.

    Args:
        model: as it trains, its watching hooks asleep.
        batch: the first, or why there is none.
        loss: of the loop, as loss(outputs, targets).

    Returns:
        What could be read; an error costs only what it hinders.
    """
    if isinstance(batch, str):
        built = Structure(sites=module_sites(model), unseen={"graph": batch})
        return Beginning(structure=built, unseen={"graph": batch, "targets": batch})
    with same_random():  # a first import of torch's tracer draws from them
        try:
            built = read(model, batch)
            passed = [strays(model, graph) for graph in built.graphs.values()]
        except Exception as error:
            built = Structure(sites=module_sites(model))
            built.unseen["graph"] = ours(error)
            passed = []
        output, unseen = _output(model, batch, built, loss)
    known = "graph" not in built.unseen
    return Beginning(
        structure=built,
        output=output,
        strays=frozenset().union(*passed) if known else None,
        unseen=built.unseen | unseen,
    )


def _output(
    model: nn.Module,
    batch: Batch,
    built: Structure,
    loss: Callable[..., Any] | None,
) -> tuple[Output | None, dict[str, str]]:
    if loss is None:
        return None, {"targets": "no loss given"}
    if batch.targets is None:
        return None, {"targets": "the loss was not called before the first step"}
    outer = heads(built.sites)
    try:
        with loss_untouched(loss, model):
            probed = probe(model, [batch], outer, loss=loss, gradients=False)
            z = [
                (site, probed.net_inputs[site.name])
                for site in outer
                if site.name in probed.net_inputs
            ]
            return output_facts(z, probed.outputs, probed.targets, loss)
    except Exception as error:
        return None, {"targets": ours(error)}
