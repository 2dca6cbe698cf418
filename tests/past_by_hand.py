"""Histories made by hand, for the edges of thresholds."""

import numpy as np

from plumbob.types import (
    Course,
    Group,
    History,
    Losses,
    Needs,
    Optimizer,
    Site,
    Survey,
)

FACTS = tuple(f for f in Course.__dataclass_fields__ if f != "numel")


def course(logs, *, numel=100, **facts):
    """Return a course: a number for each fact, or one for each log."""
    usual = {"size": 10.0, "gradient": 1.0, "change": 0.01, "pull": 0.1}
    usual |= {"slope": -0.01, "along": -0.001, "lr": 0.01, "decay": 0.0}
    assert facts.keys() <= set(FACTS)
    numbers = dict.fromkeys(FACTS, np.nan) | usual | facts
    return Course(
        numel=numel,
        **{
            name: np.broadcast_to(np.array(n, float), logs).copy()
            for name, n in numbers.items()
        },
    )


def survey(
    courses=None,
    *,
    logs=20,
    every=1,
    loss=None,
    constant=None,
    floor=None,
    optimizer="SGD",
    sites=True,
    group=None,
    taken=None,
    over=True,
    **facts,
):
    """Return the survey of a run whose parameters have the facts given by name.

    `loss` is a number, or one for each step.
    """
    made = {n: course(logs, **given) for n, given in (courses or {}).items()}
    steps = np.arange(logs) * every
    taken = int(steps[-1] + 1 if logs else 0) if taken is None else taken
    losses = {}
    if loss is not None:
        values = np.broadcast_to(np.array(loss, float), max(taken, 1)).copy()
        losses = {"loss": Losses(steps=np.arange(len(values)), values=values)}
    maps = [n.removesuffix(".weight") for n in made if n.endswith(".weight")]
    known = Needs.HISTORY | Needs.OPTIMIZER | Needs.GRAPH
    return Survey(
        sites=tuple(
            Site(
                name=name,
                kind="linear",
                out=10,
                fan_in=10,
                weight=f"{name}.weight",
                bias=f"{name}.bias",
                is_output=name == maps[-1],
            )
            for name in maps
        )
        if sites
        else (),
        known=known | (Needs.LOSSES if losses else Needs(0)),
        optimizer=Optimizer(
            name=optimizer,
            steps=taken,
            groups=(Group(parameters=tuple(made), lr=0.01, **(group or {})),),
        ),
        history=History(
            steps=steps,
            courses=made,
            losses=losses,
            constant=constant,
            floor=floor,
            taken=taken,
            over=over,
            **facts,
        ),
    )


def said(rule, survey, **limits):
    """Return (severity, message) of each finding of a rule."""
    from plumbob.rule import findings

    return [(f.severity.name, f.message) for f in findings(rule, survey, **limits)]


def severities(rule, survey, **limits):
    return [severity for severity, _ in said(rule, survey, **limits)]
