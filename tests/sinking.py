"""Logs and findings to feed sinks with."""

from math import inf, nan

import numpy as np

from plumbob.types import (
    Finding,
    Log,
    Mark,
    Moments,
    Needs,
    Remedy,
    Severity,
    Survey,
    Window,
)

UNITS = 8


def moments(mean, sd=1.0):
    mean = np.broadcast_to(np.asarray(mean, float), (UNITS,)).copy()
    count = np.full(UNITS, 10)
    return Moments(
        count=count,
        mean=mean,
        m2=count * np.broadcast_to(np.asarray(sd, float), (UNITS,)) ** 2,
        low=mean - 2,
        high=mean + 2,
        positive=count // 2,
        nonfinite=np.zeros(UNITS, int),
    )


def log(step, *, sites=40, loss=1.0):
    """Return a log of many sites; E[z] of unit j of site i is i + j / 10."""
    beta = np.arange(UNITS) / 10
    return Log(
        step=step,
        losses={"loss": ((step, loss),)},
        marks={
            f"layer{i}.weight": Mark(
                numel=64, size=2.0, gradient=0.1, change=0.002 * (i + 1), lr=0.01
            )
            for i in range(sites)
        },
        windows={
            f"layer{i}": Window(
                first=step, last=step, z=moments(i + beta), bias=beta, samples=10
            )
            for i in range(sites)
        },
    )


def broken(step):
    """Return a log in which everything is NaN or infinite."""
    return Log(
        step=step,
        losses={"loss": ((step, nan),)},
        held=((step, inf),),
        marks={"layer0.weight": Mark(numel=64, size=nan, gradient=inf, change=nan)},
        windows={
            "layer0": Window(
                first=step, last=step, z=moments(nan, nan), bias=np.full(UNITS, inf)
            )
        },
    )


def finding(site="layer7", code="PB701", severity=Severity.ERROR):
    return Finding(
        code=code,
        name="loss-non-finite",
        site=site,
        severity=severity,
        message="the loss is not finite",
        cause="it overflowed",
        evidence={},
        remedy=Remedy(advice="Lower the learning rate."),
    )


def feed(sink):
    """Give a sink a whole run: two good logs, a finding, and a broken log."""
    sink.begin(Survey(sites=(), known=Needs(0)), {"model": "Net", "parameters": 64})
    sink.write(log(0))
    sink.tell(0, ())
    sink.write(log(50, loss=0.5))
    sink.tell(50, (finding(),))
    sink.tell(60, (finding(),))
    sink.write(broken(100))
    sink.close()
