"""Surveys of chains of maps made by hand, for the edges of thresholds."""

import numpy as np

from hand import moments, normals
from plumbob.types import (
    Feed,
    Needs,
    Optimizer,
    Output,
    Reading,
    Rows,
    Signals,
    Site,
    Stage,
    Survey,
)

SGD = Optimizer(name="SGD", steps=0, groups=())
ADAM = Optimizer(name="Adam", steps=0, groups=())


def chain(sizes, *, norms=None, offset=0.0, stage=Stage.INIT, **more):
    """Return maps a0, a1, ... whose z has these deviations and rows these norms."""
    norms = [1.0] * len(sizes) if norms is None else norms
    names = [f"a{i}" for i in range(len(sizes))]
    sites = tuple(
        Site(
            name=name,
            kind="linear",
            out=4,
            fan_in=4,
            weight=f"{name}.weight",
            stage=stage,
            feeds=tuple(Feed(site=n) for n in names[i + 1 : i + 2]),
            fed_by=tuple(names[max(0, i - 1) : i]),
            reads_input=i == 0,
            is_output=i == len(names) - 1,
        )
        for i, name in enumerate(names)
    )
    z = normals(64, 4)
    readings = {
        name: Reading(
            samples=64,
            x=moments(z),
            z=moments(size * z + (offset if i else 0)),
            rows=Rows(
                norm=np.full(4, float(norm)), columns=np.ones(4), twin=np.arange(4)
            ),
        )
        for i, (name, size, norm) in enumerate(zip(names, sizes, norms, strict=True))
    }
    known = Needs.ACTIVATIONS | Needs.GRAPH | Needs.SIGNALS
    return Survey(sites=sites, known=known, readings=readings, **more)


def signals(sizes, *, later=None, places=None):
    """Return what is known of the gradient at a0, a1, ..."""

    def named(values):
        return {f"a{i}": float(value) for i, value in enumerate(values or ())}

    return Signals(
        samples=64,
        gradients=named(sizes),
        places=named(places or [1.0] * len(sizes)),
        later=named(later),
        steps=5 if later else 0,
    )


def output(loss, *, constant=2.0, floor=0.0):
    """Return the facts of an output whose loss is this."""
    return Output(
        site="a3",
        loss=loss,
        shifted=loss,
        zero=constant,
        constant=constant,
        shift=np.zeros(4),
        best=np.zeros(4),
        mean_output=np.zeros(4),
        samples=64,
        floor=floor,
    )
