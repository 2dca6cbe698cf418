import numpy as np
import pytest

from plumbob.types import Log, Mark, Moments, Window
from plumbob.watching.series import places, series


def of(z):
    z = np.asarray(z, float)
    return Moments(
        count=np.full(z.shape[1], len(z)),
        mean=z.mean(0),
        m2=((z - z.mean(0)) ** 2).sum(0),
        low=z.min(0),
        high=z.max(0),
        positive=(z > 0).sum(0),
        nonfinite=np.zeros(z.shape[1], int),
    )


def log():
    return Log(
        step=7,
        losses={"loss": ((6, 1.0), (7, 3.0))},
        held=((7, 5.0),),
        marks={
            "a": Mark(numel=4, size=2.0, gradient=3.0, change=1.0, lr=0.1),
            "b": Mark(numel=4, size=4.0, gradient=4.0, change=1.0, lr=0.2),
            "c": Mark(numel=4, size=0.0),
        },
        windows={
            "s": Window(first=7, last=7, z=of([[-1, 1], [-3, 3]])),
        },
    )


def test_whole_model_numbers():
    found = series(log())
    assert found["loss"] == pytest.approx(2.0)
    assert found["validation loss"] == pytest.approx(5.0)
    assert found["learning rate"] == pytest.approx(0.2)
    assert found["gradient/all"] == pytest.approx(5.0)
    assert found["update ratio/median"] == pytest.approx(0.375)
    assert found["units/never positive"] == pytest.approx(0.5)
    assert found["units/always positive"] == pytest.approx(0.5)
    assert found["units/bias over sd/median"] == pytest.approx(2.0)


def test_the_worst_are_told_by_rank():
    found = series(log())
    assert found["update ratio/worst 1"] == pytest.approx(0.5)
    assert places(log())["update ratio/worst 1"] == "a"
    assert found["update ratio/worst 2"] == pytest.approx(0.25)
    assert "update ratio/worst 3" not in found  # c has no size


def test_bounded_and_without_nan_for_any_model():
    rng = np.random.default_rng(0)
    marks = {
        f"p{i}": Mark(numel=9, size=1.0, gradient=x, change=x, swallowed=x, lr=0.1)
        for i, x in enumerate(rng.uniform(size=500).tolist())
    }
    windows = {
        f"s{i}": Window(first=0, last=0, z=of(rng.normal(size=(4, 3))))
        for i in range(200)
    }
    broken = of(np.full((4, 3), np.nan))
    big = Log(
        step=0,
        marks=marks,
        windows=windows | {"nan": Window(first=0, last=0, z=broken)},
    )
    found = series(big)
    assert 20 < len(found) <= 60
    assert not any(np.isnan(v) for v in found.values())
    assert series(Log(step=0)) == {}


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e308])
def test_a_broken_run_is_no_reason_to_warn(value):
    marks = {"a": Mark(numel=4, size=value, gradient=value, change=1e300, lr=value)}
    losses = ((0, np.inf), (1, value), (2, value))
    log = Log(step=2, losses={"loss": losses}, held=losses, marks=marks)
    assert not any(np.isnan(v) for v in series(log).values())


def test_units_of_which_nothing_was_counted_say_nothing():
    z = of([[-1, 1], [-3, 3]])
    mute = Moments(
        count=np.array([0, 2]),
        mean=np.array([0.0, 2.0]),
        m2=np.array([0.0, 2.0]),
        low=np.array([np.inf, 1.0]),
        high=np.array([-np.inf, 3.0]),
        positive=np.array([0, 2]),
        nonfinite=np.array([2, 0]),
    )
    windows = {"s": Window(first=0, last=0, z=z), "t": Window(first=0, last=0, z=mute)}
    found = series(Log(step=0, windows=windows))
    assert found["units/never positive"] == pytest.approx(1 / 3)
    assert found["units/always positive"] == pytest.approx(2 / 3)
    assert found["units/not finite"] == pytest.approx(1 / 4)
    assert found["units/effective bias/median"] == pytest.approx(2.0)
    assert found["dead units/worst 1"] == pytest.approx(0.5)
    assert not found["dead units/worst 2"]
