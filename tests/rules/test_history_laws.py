"""Laws over every rule of a run: whatever the history, and whoever is watched."""

from dataclasses import fields, replace
from math import inf, nan
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plumbob
from nets_history import HISTORY
from past_by_hand import FACTS
from plumbob.judge import judge
from plumbob.rules import RULES
from plumbob.settings import Settings
from plumbob.types import (
    Course,
    Gradient,
    Group,
    History,
    Log,
    Losses,
    Moments,
    Needs,
    Optimizer,
    Passes,
    Reading,
    Site,
    Survey,
    Window,
)

RUNNING = [rule for rule in RULES if Needs.HISTORY in rule.needs]
ANY = st.one_of(
    st.sampled_from([0.0, nan, inf, -inf, 1e-30, 1e30, 1.0, -1.0]),
    st.floats(-10, 10),
)
SITES = (
    Site(
        name="a", kind="linear", out=3, fan_in=2, weight="a.weight", bias="a.bias",
        activation="relu", reads_input=True,
    ),
    Site(name="b", kind="norm", out=3, fan_in=1, weight="b.weight", bias="b.bias"),
    Site(name="c", kind="linear", out=2, fan_in=3, weight="c.weight", is_output=True),
)  # fmt: skip
NAMES = ("a.weight", "a.bias", "b.weight", "b.bias", "c.weight")


def numbers(draw, count):
    """Return one number for all, or one for each."""
    if draw(st.booleans()):
        return np.full(count, draw(ANY))
    return np.array(draw(st.lists(ANY, min_size=count, max_size=count)), float)


def series(draw, most):
    count = draw(st.integers(0, most))
    return Losses(steps=np.arange(count), values=numbers(draw, count))


def window(draw, site, step):
    units, count = site.out, draw(st.sampled_from([0, 1, 64]))
    mean, spread = numbers(draw, units), np.abs(numbers(draw, units))
    with np.errstate(all="ignore"):
        z = Moments(
            count=np.full(units, count),
            mean=mean,
            m2=spread,
            low=mean - spread,
            high=mean + spread,
            positive=np.full(units, draw(st.integers(0, count))),
            nonfinite=np.zeros(units, int),
        )
    bias = numbers(draw, units) if site.bias else None
    return Window(first=step, last=step, z=z, samples=count, bias=bias)


def drawn(draw):
    """Return a survey of an odd history."""
    logs = draw(st.sampled_from([0, 1, 2, 5, 30]))
    steps = np.arange(logs) * draw(st.sampled_from([1, 50]))
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    courses = {
        name: Course(numel=6, **{fact: numbers(draw, logs) for fact in FACTS})
        for name in names
    }
    losses = {"loss": series(draw, 60)} if draw(st.booleans()) else {}
    if draw(st.booleans()):
        losses["rival"] = series(draw, 5)
    held = series(draw, 20) if draw(st.booleans()) else None
    rows = {
        site.name: tuple(window(draw, site, s) for s in steps[:4].tolist())
        for site in SITES
        if logs and draw(st.booleans())
    }
    some, count = st.sampled_from([None, 0.0, 1.0, nan, inf]), st.integers(0, 40)
    whole = {f.name for f in fields(Passes) if f.type in (int, "int")}
    history = History(
        steps=steps,
        courses=courses,
        windows=rows,
        losses=losses,
        held=held,
        taken=draw(st.sampled_from([logs, 25, 500, 100_000])),
        over=draw(st.booleans()),
        samples=draw(st.sampled_from([0, 1, 32])),
        constant=draw(some),
        floor=draw(some),
        passes=Passes(**{name: draw(count) for name in sorted(whole)}),
        looked=draw(count),
        uncleared=draw(count),
        skipped=draw(count),
        apart={"a.weight": draw(ANY)} if draw(st.booleans()) else {},
        unheld=tuple(draw(st.lists(st.sampled_from([*NAMES, "gone"]), max_size=2))),
        scales=np.ones(logs),
    )
    known = ~(Needs.LOSSES | Needs.VALIDATION)
    known |= Needs.LOSSES if history.loss is not None else Needs(0)
    known |= Needs.VALIDATION if held is not None else Needs(0)
    return Survey(
        sites=SITES,
        known=known,
        history=history,
        readings={
            n: Reading(samples=w[-1].samples, z=w[-1].z) for n, w in rows.items()
        },
        gradients={name: Gradient(reached=True, norm=draw(ANY)) for name in names},
        optimizer=Optimizer(
            name=draw(st.sampled_from(["SGD", "Adam", "SGD + Adam", "Own"])),
            steps=history.taken,
            groups=(Group(parameters=(*names, "?"), lr=0.1, eps=draw(ANY)),),
        ),
    )


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_history_is_too_odd(data):
    survey = drawn(data.draw)
    with np.errstate(all="ignore"):
        verdict = judge(survey, RUNNING, Settings())
    assert verdict.crashed == {}
    for finding in verdict.findings:
        assert "{" not in finding.message + finding.cause + finding.remedy.advice
        assert all(isinstance(n, int | float) for n in finding.evidence.values())


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_nothing_measured_is_nothing_found(data):
    survey = drawn(data.draw)
    nothing = History(steps=np.zeros(0, np.int64))
    bare = replace(survey, history=nothing, readings={}, gradients={})
    assert judge(bare, RUNNING, Settings()).findings == ()


class Unwatched:
    """Stands in for a watch that watches nothing."""

    def __init__(self, model, optimizer=None, *, loss=None, **_):
        self.model, self.loss = model, loss
        self.past, self.report = SimpleNamespace(last=Log(step=-1)), True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def nothing(self, *_):
        return None

    step = validate = note = close = nothing


def hooks(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return [len(getattr(m, kind)) for m in model.modules() for kind in kinds]


@pytest.mark.parametrize("code", HISTORY)
def test_a_watched_training_is_the_one_that_it_would_have_been(code, monkeypatch):
    def trained():
        torch.manual_seed(0)
        watch = HISTORY[code](leans=True)
        values = [t.detach().clone() for t in watch.model.state_dict().values()]
        return values, hooks(watch.model), watch.model.training, torch.get_rng_state()

    seen = trained()
    monkeypatch.setattr(plumbob, "watch", Unwatched)
    unseen = trained()
    for one, other in zip(seen[0], unseen[0], strict=True):
        assert torch.equal(one.nan_to_num(7e7), other.nan_to_num(7e7))
    assert seen[1:3] == unseen[1:3]
    assert torch.equal(seen[3], unseen[3])
