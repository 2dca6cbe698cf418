import itertools

import numpy as np
import pytest

from plumbob.survey import history
from plumbob.survey.history import Past
from plumbob.types import Log, Mark, Moments, Window


def of(values):
    z = np.asarray(values, float)[:, None]
    one = np.ones(1, int)
    return Moments(
        count=one * len(z),
        mean=z.mean(0),
        m2=((z - z.mean(0)) ** 2).sum(0),
        low=z.min(0),
        high=z.max(0),
        positive=(z > 0).sum(0),
        nonfinite=0 * one,
    )


def log(step, **more):
    z = of([step, step + 1.0])
    return Log(
        step=step,
        losses={"loss": ((step, float(step)),)},
        marks={"w": Mark(numel=2, size=float(step), lr=0.1)},
        windows={"s": Window(first=step, last=step, z=z, samples=2)},
        samples=2,
        **more,
    )


def test_logs_become_columns():
    past = Past()
    past.add(log(0))
    past.add(
        Log(
            step=3,
            marks={
                "w": Mark(numel=2, size=5.0),
                "late": Mark(numel=1, gradient=7.0, decay=0.5),
            },
            held=((3, 9.0),),
        )
    )
    found = past.history()
    assert found.steps.tolist() == [0, 3]
    assert found.courses["w"].size.tolist() == [0, 5]
    late = found.courses["late"]
    assert np.isnan(late.gradient[0])
    assert late.gradient[1] == pytest.approx(7)
    assert late.decay.tolist() == [0, 0.5]
    assert found.held.values.tolist() == [9]
    assert found.taken == 4


def test_long_runs_keep_their_ends_and_all_moments():
    past = Past()
    total = 3000
    for step in range(total):
        past.add(log(step))
    found = past.history()
    assert len(found.steps) <= history.LOGS
    assert found.steps[:5].tolist() == [0, 1, 2, 3, 4]
    assert found.steps[-1] == total - 1
    windows = found.windows["s"]
    assert len(windows) == history.WINDOWS
    assert windows[0].first == 0
    assert windows[-1].last == total - 1
    assert all(a.last + 1 == b.first for a, b in itertools.pairwise(windows))
    spans = [w.last - w.first + 1 for w in windows]
    assert spans[0] > spans[-4]
    assert max(spans) < total / 2  # the start stays to be seen
    whole = sum((w.z for w in windows[1:]), windows[0].z)
    every = np.ravel([[s, s + 1] for s in range(total)])
    assert whole.count[0] == 2 * total
    assert whole.mean[0] == pytest.approx(every.mean())
    assert whole.m2[0] == pytest.approx(((every - every.mean()) ** 2).sum())


def test_losses_are_averaged_in_pairs_not_lost():
    past = Past()
    for step in range(history.LOSSES + 1):
        past.add(Log(step=step, losses={"loss": ((step, 1.0),)}))
    found = past.history().loss
    assert len(found.steps) < history.LOSSES
    assert found.values.min() == found.values.max() == pytest.approx(1)
    assert found.steps[-1] == history.LOSSES


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_loss_told_of_before_its_log_is_one_and_in_order(value):
    past = Past()
    past.add(Log(step=0, losses={"loss": ((0, 1.0),)}))
    past.note("loss", [(5, value)])
    assert past.history().loss.steps.tolist() == [0, 5]
    assert past.history().taken == 6
    some = ((3, 1.0), (4, 1.0), (5, value), (6, value))
    past.add(Log(step=6, losses={"loss": some[:2]}))
    assert past.history().loss.steps.tolist() == [0, 3, 4, 5]
    past.add(Log(step=6, losses={"loss": some[2:]}))
    assert past.history().loss.steps.tolist() == [0, 3, 4, 5, 6]
