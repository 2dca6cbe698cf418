"""Runs made by hand: their losses, what is known of them, one map's marks."""

import numpy as np

from plumbob.rule import findings
from plumbob.types import (
    Course,
    History,
    Losses,
    Moments,
    Needs,
    Severity,
    Site,
    Survey,
    Window,
)

MAP = Site(
    name="out", kind="linear", out=2, fan_in=3, weight="out.weight", is_output=True
)
LOUD = (Severity.WARNING, Severity.ERROR)


def wavy(values, noise=0.01):
    """Add what differs from batch to batch."""
    return np.asarray(values, float) + noise * np.resize([1.0, -1.0], len(values))


def course(count, **marks):
    """Return marks of one parameter; what is not given is not known."""
    names = [n for n in Course.__dataclass_fields__ if n not in {"numel", "decay"}]
    given = {
        n: np.resize(np.asarray(marks.get(n, np.nan), float), count) for n in names
    }
    return Course(numel=6, decay=np.zeros(count), **given)


def spread(sd, steps=1):
    """Return one window of an output with two units whose deviation is sd."""
    count = np.full(2, 100)
    z = Moments(
        count=count,
        mean=np.zeros(2),
        m2=count * sd**2,
        low=np.full(2, -3 * sd),
        high=np.full(2, 3 * sd),
        positive=count // 2,
        nonfinite=np.zeros(2, int),
    )
    return Window(first=0, last=steps, z=z, samples=100)


def run(
    values, *, held=None, sd=None, over=True, constant=1.0, floor=0.0, sites=(MAP,), **m
):
    """Return the survey of a run with these losses, one a step, every step measured."""
    values = np.asarray(values, float)
    steps = np.arange(len(values))
    history = History(
        steps=steps,
        courses={"out.weight": course(len(steps), **m)} if m else {},
        windows={} if sd is None else {"out": (spread(sd),)},
        losses={"loss": Losses(steps=steps, values=values)},
        held=None
        if held is None
        else Losses(
            steps=np.linspace(0, len(values) - 1, len(held)).astype(int),
            values=np.asarray(held, float),
        ),
        taken=len(values),
        over=over,
        constant=constant,
        floor=floor,
        scales=np.ones(len(values)),
    )
    known = Needs.HISTORY | Needs.LOSSES
    return Survey(
        sites=sites,
        known=known | (Needs(0) if held is None else Needs.VALIDATION),
        history=history,
    )


def told(rule, survey, **limits):
    """Return the severities of what a rule finds."""
    return [found.severity.name.lower() for found in findings(rule, survey, **limits)]
