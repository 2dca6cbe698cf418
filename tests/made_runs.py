"""Runs that nobody trained: histories of any size, made of random numbers."""

from dataclasses import replace as replace
from itertools import pairwise

import numpy as np

from plumbob.types import (
    Change,
    Course,
    Event,
    Finding,
    History,
    Losses,
    Moments,
    Remedy,
    Run,
    Safety,
    Severity,
    Site,
    Window,
)

PARTS = ("weight", "bias")


def course(draw, steps, numel=64, lr=1e-3):
    size = np.sqrt(numel) * np.exp(0.002 * draw.normal(size=len(steps)).cumsum())
    nothing = np.full(len(steps), np.nan)
    return Course(
        numel=numel,
        size=size,
        gradient=np.exp(draw.normal(size=len(steps))),
        change=lr * size * np.exp(0.3 * draw.normal(size=len(steps))),
        pull=nothing,
        slope=nothing,
        along=nothing,
        moved=nothing,
        swallowed=nothing,
        lr=np.full(len(steps), lr),
        decay=np.zeros(len(steps)),
    )


def window(draw, first, last, units=8, drift=0.0):
    count = np.full(units, 256)
    mean = draw.normal(size=units) - drift
    sd = np.exp(0.3 * draw.normal(size=units)) * (1 + 0.3 * drift)
    return Window(
        first=first,
        last=last,
        samples=256,
        z=Moments(
            count=count,
            mean=mean,
            m2=count * sd**2,
            low=mean - 3 * sd,
            high=mean + 3 * sd,
            positive=(count / (1 + np.exp(-2 * mean / sd))).astype(int),
            nonfinite=np.zeros(units, int),
        ),
    )


def history(names, taken=400, logs=120, spans=24, seed=0, parts=PARTS, **facts):
    draw = np.random.default_rng(seed)
    steps = np.unique(np.linspace(0, taken - 1, logs).astype(int)) if taken else []
    steps = np.array(steps, np.int64)
    every = np.arange(taken)
    fall = 2.3 * np.exp(-4 * every / max(taken, 1)) + 0.05
    edges = np.unique(np.linspace(0, taken, spans + 1).astype(int)).tolist()
    held = every[:: max(taken // 20, 1)]
    made = {
        "steps": steps,
        "courses": {
            f"{name}.{part}": course(draw, steps) for name in names for part in parts
        },
        "windows": {
            name: tuple(
                window(draw, a, b - 1, drift=depth * a / max(taken, 1))
                for a, b in pairwise(edges)
            )
            for depth, name in enumerate(names)
        },
        "losses": {
            "loss": Losses(
                steps=every, values=fall * np.exp(0.2 * draw.normal(size=taken))
            )
        },
        "held": Losses(steps=held, values=fall[held] + 0.1) if taken else None,
        "taken": taken,
        "over": True,
        "samples": 64,
        "constant": 2.303,
        "floor": 0.0,
    }
    return History(**made | facts)


def sites(names):
    return tuple(
        Site(
            name=name,
            kind="linear",
            out=8,
            fan_in=16,
            weight=f"{name}.weight",
            bias=f"{name}.bias",
            activation="relu",
        )
        for name in names
    )


def finding(**changes):
    facts = {
        "code": "PB708",
        "name": "dying",
        "site": "fc2",
        "severity": Severity.WARNING,
        "message": "5 of 8 units of fc2 leave the range of their inputs",
        "cause": "their effective biases fell to -6.312 spreads of z",
        "evidence": {"dying": 5, "units": 8, "offset": -6.3121},
        "remedy": Remedy(
            advice="Take a smaller step; or clip gradients.",
            safety=Safety.CHANGES_TRAINING,
            act="set-learning-rate",
        ),
    }
    return Finding(**facts | changes)


NOTE = finding(
    code="PB718",
    name="unfinished",
    site=None,
    severity=Severity.INFO,
    message="the loss still falls by 2 % per 100 steps",
    cause="the training ended before its loss was flat",
)
BROKEN = finding(
    code="PB704",
    name="update-ratio",
    site="head.weight",
    severity=Severity.ERROR,
    message="the step is 0.9 of the weights at the median",
    consequences=(finding(code="PB711", name="plateau", site="head"),),
)
NAMES = ("stem", "fc1", "fc2", "head")


def run(names=NAMES, **changes):
    """Return a run with one finding of each severity, and one that went."""
    went = finding(code="PB703", name="oscillating", site="fc1")
    facts = {
        "name": "2026-11-21-a",
        "about": {
            "model": "Net",
            "parameters": 204,
            "torch": "2.13.0",
            "seed": "7",
            "command": "plumbob run train.py --lr 0.1",
            "started": 1795258000.0,
            "every": 50,
        },
        "sites": sites(names),
        "history": history(names),
        "findings": (BROKEN, finding(), NOTE),
        "changes": (
            Change(step=20, kind="new", finding=went),
            Change(step=60, kind="new", finding=finding()),
            Change(step=90, kind="gone", finding=went),
            Change(step=200, kind="new", finding=BROKEN),
            Change(step=399, kind="new", finding=NOTE),
        ),
        "judged": (0, 20, 60, 90, 200, 399),
        "events": (Event(step=300, kind="lost", text="the sink x raised: full"),),
        "not_judged": {"PB710": "needs validation losses", "PB714": "one process"},
        "over": True,
        "died": False,
    }
    return Run(**facts | changes)
