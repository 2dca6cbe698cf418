"""A run so far as a survey: what the rules of a single check need, as far as exact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from plumbob.survey.about import about
from plumbob.survey.names import site_name
from plumbob.survey.optimizer import optimizer_facts
from plumbob.survey.stream.several import spread
from plumbob.survey.structures import ours
from plumbob.survey.weights import weigh
from plumbob.types import (
    Break,
    Census,
    Course,
    Gradient,
    History,
    Needs,
    Optimizer,
    Reading,
    Rows,
    Site,
    Stage,
    Survey,
    Window,
)
from plumbob.watching.beginning import Beginning

LATEST = 0.25  # share of a run, counted from its end, that a reading is merged over
FEWEST = 3  # logs without a gradient before a parameter counts as not reached
ONCE = "it is measured by plumbob.check on a batch, not during a run"
HELD_BACK = ("inputs", "loss", "targets", "signals", "step", "spectra", "overfit")


@dataclass(frozen=True, slots=True)
class Weighed:
    """The parameters at one step."""

    tensors: Mapping[str, Census] = field(default_factory=dict[str, Census])
    rows: Mapping[str, Rows] = field(default_factory=dict[str, Rows])
    unseen: Mapping[str, str] = field(default_factory=dict[str, str])


def weighed(model: nn.Module, sites: Sequence[Site]) -> Weighed:
    """Weigh the parameters as they are now."""
    if spread(model):  # which may just now have gathered what it soon gives back
        return Weighed(unseen={"weights": "other ranks hold parts of them"})
    try:
        return Weighed(*weigh(model, sites))
    except Exception as error:
        return Weighed(unseen={"weights": ours(error)})


def survey(
    model: nn.Module,
    history: History,
    start: Beginning,
    *,
    optimizer: Any = None,
    weights: Weighed | None = None,
    broken: Break | None = None,
    unseen: Mapping[str, str],
    every: int,
) -> Survey:
    """Join what is known of a run.

    Readings are merged over the last quarter of the run. Of the earlier rules only
    those are judged whose facts are as exact as in a check; for the others `unseen`
    says why.
    """
    stage = Stage.TRAINED if history.taken else Stage.UNKNOWN
    built = start.structure
    why = start.unseen | dict(unseen) | dict.fromkeys(HELD_BACK, ONCE)
    facts, missing = _optimizer(optimizer, model)
    why |= missing
    if weights is None:
        why["weights"] = "they are weighed now and then"
    else:
        why |= weights.unseen
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    gradients = _gradients(history, frozen)
    known = {
        Needs.HISTORY: True,
        Needs.STAGE: stage is Stage.TRAINED,
        Needs.ACTIVATIONS: bool(history.windows),
        Needs.GRADIENTS: bool(gradients),
        Needs.GRAPH: "graph" not in start.unseen,
        Needs.LOSSES: history.loss is not None,
        Needs.VALIDATION: history.held is not None,
        Needs.OPTIMIZER: facts is not None,
        Needs.WEIGHTS: weights is not None and "weights" not in why,
    }
    return Survey(
        sites=tuple(replace(s, stage=stage) for s in built.sites),
        known=_flags(known),
        readings=_readings(history, start, weights),
        tensors=weights.tensors if weights else {},
        proofs=built.proofs,
        gradients=gradients,
        optimizer=facts,
        history=history,
        first_break=broken,
        unseen=why,
        bends=built.bends,
        about=about(model) | {"steps": history.taken, "every": every},
    )


def _flags(known: Mapping[Needs, bool]) -> Needs:
    found = Needs(0)
    for need, fact in known.items():
        found |= need if fact else Needs(0)
    return found


def _optimizer(
    optimizer: Any, model: nn.Module
) -> tuple[Optimizer | None, dict[str, str]]:
    if optimizer is None:
        return None, {"optimizer": "none given"}
    try:
        return optimizer_facts(optimizer, model), {}
    except Exception as error:  # one of a kind of its own
        return None, {"optimizer": ours(error)}


def _readings(
    history: History, start: Beginning, weights: Weighed | None
) -> dict[str, Reading]:
    own = _by_weight(start.structure.sites)
    found: dict[str, Reading] = {}
    for name, row in history.windows.items():
        site = own.get(name)
        if site is None or not row:
            continue
        last = latest(row)
        alone = start.strays is not None and not site.tied
        whole = sum(last[1:], last[0])
        found[site.name] = Reading(
            samples=whole.samples,
            z=whole.z,
            saturated=whole.saturated,
            called=alone and not {site.weight, site.bias} & (start.strays or set()),
        )
    for name, rows in (weights.rows if weights else {}).items():
        found[name] = replace(found.get(name, Reading()), rows=rows)
    return found


def latest(windows: Sequence[Window]) -> Sequence[Window]:
    """Return the windows of the last quarter of a run, at least the last one."""
    begin = windows[-1].last - LATEST * (windows[-1].last + 1)
    return [w for w in windows if w.first > begin] or windows[-1:]


def _by_weight(sites: Sequence[Site]) -> dict[str, Site]:
    """Return sites by the names that modules give them.

    The trace may call a site otherwise; it is the same where it alone has the weight.
    """
    found = {site.name: site for site in sites}
    whole = [site for site in sites if site.weight and site.rows is None]
    for site in whole:
        name = site_name(site.weight)
        if sum(other.weight == site.weight for other in sites) == 1:
            found.setdefault(name, site)
    return found


def _gradients(history: History, frozen: set[str]) -> dict[str, Gradient]:
    """Return each parameter's last norm; of one that never had any, that it had none.

    Only of those in an optimiser, as the others' are not looked at, and of those that
    want one.
    """
    found: dict[str, Gradient] = {}
    for name, course in history.courses.items():
        had = course.gradient[~np.isnan(course.gradient)]
        if len(had):
            found[name] = Gradient(reached=True, norm=float(had[-1]))
        elif _watched(course) >= FEWEST and name not in frozen:
            found[name] = Gradient(reached=False)
    return found


def _watched(course: Course) -> int:
    return int((~np.isnan(course.lr)).sum())
