"""Surveys of a run made by hand: one site fc1 whose units are known by windows."""

from dataclasses import replace

import numpy as np

from hand import moments, one
from plumbob.types import History, Losses, Moments, Needs, Window


def course(rows, *, loss=None, constant=None, bias=None, apart=10, **site):
    """Return a survey in which z of fc1 were `rows`, one (samples, units) per window.

    `bias` are its biases at the ends of the windows; `loss` is the last of 60 losses
    that begin at 1, None: not known.
    """
    survey = one(rows[-1], **{"activation": "sigmoid"} | site)
    windows = tuple(
        Window(
            first=apart * i,
            last=apart * i,
            z=moments(z),
            samples=len(z),
            bias=None if bias is None else np.asarray(bias[i], float),
        )
        for i, z in enumerate(rows)
    )
    taken = apart * (len(rows) - 1) + 1
    known = survey.known | Needs.HISTORY | Needs.GRAPH
    losses = {}
    if loss is not None:
        steps = np.linspace(0, taken - 1, 60).astype(int)
        values = np.linspace(1.0, loss, 60)
        losses = {"loss": Losses(steps=steps, values=values)}
    history = History(
        steps=np.arange(0, taken, apart),
        scales=np.ones(len(rows)),
        windows={"fc1": windows},
        losses=losses,
        taken=taken,
        constant=constant,
    )
    return replace(survey, known=known, history=history)


def silent(units):
    """Return the moments of units of which no value was finite."""
    none = np.zeros(units, int)
    return Moments(
        count=none, mean=none * 0.0, m2=none * 0.0, low=none + np.inf,
        high=none - np.inf, positive=none, nonfinite=none + 40,
    )  # fmt: skip
