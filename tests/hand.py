"""Surveys made by hand, with textbook moments, for the edges of thresholds."""

import numpy as np

from plumbob.types import Moments, Needs, Reading, Rows, Site, Survey


def moments(z):
    """Return the moments of z (samples, units)."""
    return Moments(
        count=np.full(z.shape[1], len(z)),
        mean=z.mean(0),
        m2=((z - z.mean(0)) ** 2).sum(0),
        low=z.min(0),
        high=z.max(0),
        positive=(z > 0).sum(0),
        nonfinite=np.zeros(z.shape[1], int),
    )


def normals(*shape):
    """Return standardised noise: mean 0 and variance 1 per column, exactly."""
    z = np.random.default_rng(0).standard_normal(shape)
    return (z - z.mean(0)) / z.std(0)


def one(z, *, x=None, bias=None, samples=None, steep=None, top=None, **site):
    """Return a survey of one site fc1 with net inputs z (samples, units).

    `steep` is the |z| beyond which the activation counts as saturated.
    """
    units = z.shape[1]
    fan_in = 3 if x is None else x.shape[1]
    site = {
        "name": "fc1",
        "kind": "linear",
        "out": units,
        "fan_in": fan_in,
        "weight": "fc1.weight",
        "reads_input": True,
    } | site
    rows = Rows(
        norm=np.ones(units),
        columns=np.ones(fan_in),
        twin=np.arange(units),
        bias=np.zeros(units) if bias is None else np.array(bias, float),
    )
    reading = Reading(
        samples=len(z) if samples is None else samples,
        x=None if x is None else moments(x),
        z=moments(z),
        rows=rows,
        saturated=None if steep is None else (np.abs(z) > steep).sum(0),
        top=top,
    )
    return Survey(
        sites=(Site(**site),), known=Needs.ACTIVATIONS, readings={"fc1": reading}
    )


def rows_of(*, twin, norm=None, outgoing=None, outgoing_twin=None, **site):
    """Return a survey of one site fc1 of which only the weights are known."""
    units = len(twin)
    name = site.get("name", "fc1")
    site = {
        "name": name,
        "kind": "linear",
        "out": units,
        "fan_in": 3,
        "weight": name if "weight_" in name else f"{name}.weight",
    } | site
    rows = Rows(
        norm=np.ones(units) if norm is None else norm,
        columns=np.ones(site["fan_in"]),
        twin=twin,
        outgoing=outgoing,
        outgoing_twin=outgoing_twin,
    )
    return Survey(
        sites=(Site(**site),), known=Needs.WEIGHTS, readings={name: Reading(rows=rows)}
    )
