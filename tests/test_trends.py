from math import inf

import numpy as np
import pytest

from hand_losses import course, run, wavy
from plumbob.trends import at, middle, reach, standing, trend
from plumbob.types import History, Losses


def test_where_a_loss_stands():
    values = np.concatenate([np.full(50, 0.8), np.full(25, 0.6), np.full(25, 0.5)])
    now = standing(run(wavy(values, 0.01)).history)
    assert (now.known, now.steps) == (100, 100)
    assert now.level == pytest.approx(0.5, abs=0.005)
    assert now.fall == pytest.approx(0.1, abs=0.005)
    assert now.gain == pytest.approx(2 * now.fall)
    assert now.learnt == pytest.approx(0.5, abs=0.005)
    assert now.start == pytest.approx(0.81)
    assert now.best == pytest.approx(0.5, abs=0.005)
    assert now.high == pytest.approx(0.81)


def test_the_error_of_a_level_is_that_of_a_mean_of_so_many():
    draw = np.random.default_rng(0)
    levels, errors = [], []
    for _ in range(300):
        now = standing(run(1 + 0.1 * draw.standard_normal(200)).history)
        levels.append(now.level)
        errors.append(now.error)
    assert np.mean(errors) == pytest.approx(np.std(levels), rel=0.15)


def test_a_single_spike_does_not_move_the_level():
    values = wavy(np.full(100, 0.5))
    values[90] = 1e6
    now = standing(run(values).history)
    assert now.level == pytest.approx(0.5, abs=0.01)
    assert now.high == pytest.approx(1e6, rel=1e-6)


def test_a_loss_in_log_steps_gains_by_doubling_what_is_said():
    steps = np.arange(1, 2001)
    now = standing(run(2 - 0.1 * np.log(steps)).history)
    assert now.gain == pytest.approx(0.1 * np.log(2), rel=0.05)


def test_noise_is_no_trend_and_a_trend_no_noise():
    draw = np.random.default_rng(1)
    flat = [
        standing(run(0.5 + 0.1 * draw.standard_normal(200)).history).improves
        for _ in range(200)
    ]
    assert np.mean(flat) < 0.05
    falls = standing(run(np.linspace(1, 0.2, 200)).history)
    assert falls.improves
    assert not falls.still
    rests = standing(run(wavy(np.full(200, 0.5), 0.001)).history)
    assert rests.still
    assert not rests.improves


def test_what_is_learnt_is_not_known_where_the_loss_holds_more_or_noise_hides_it():
    assert standing(run(wavy(np.full(50, -0.5))).history).learnt is None
    assert standing(run(wavy(np.full(50, 0.5), 3.0)).history).learnt is None
    assert standing(run(wavy(np.full(50, 9.0), 1.0)).history).learnt < -5
    assert standing(run(np.full(50, 0.5), constant=None).history).learnt is None
    assert standing(run(np.full(50, 0.5), floor=None).history).learnt is None
    assert standing(run(np.full(50, 0.5), floor=1.0).history).learnt is None
    assert standing(run([1.0, 0.5, np.nan, np.inf, 0.2]).history) is None


def test_rivals_have_no_one_loss():
    series = Losses(steps=np.arange(9), values=np.ones(9))
    both = History(steps=np.arange(9), losses={"one": series, "two": series})
    assert standing(both) is None
    assert np.isnan(reach(both)).all()


def test_the_length_of_a_step_in_those_of_polyak():
    """On c w^2 / 2 that of lr is lr |g|^2 / loss = 2 lr c."""
    c, lr, w = 4.0, 0.1, np.array([3.0, 1.0, 0.5])
    found = reach(run(c * w**2 / 2, slope=-lr * (c * w) ** 2).history)
    assert found == pytest.approx(np.full(3, 2 * lr * c))
    assert middle(found) == pytest.approx(0.8)
    floor = reach(run(c * w**2 / 2 + 1, slope=-lr * (c * w) ** 2, floor=1.0).history)
    assert floor == pytest.approx(found)


def test_a_step_has_no_length_where_the_floor_is_not_known():
    below = run([1.0, -1.0, 0.5, 0.2], slope=-1.0, floor=None)
    assert middle(reach(below.history)) is None
    assert middle(reach(run([1.0, 0.5], floor=None).history)) is None
    known = middle(reach(run([1.0, 0.5], slope=-1.0, floor=None).history))
    assert known == pytest.approx(1.5)


def test_the_loss_of_a_step_that_was_thinned_is_that_after_it():
    loss = Losses(steps=np.array([1, 3, 4]), values=np.array([9.0, 7.0, np.inf]))
    assert at(loss, np.array([0, 1, 2, 3])).tolist() == [9, 9, 7, 7]
    assert np.isnan(at(loss, np.array([4, 5]))).all()


def test_marks_that_are_not_known_promise_nothing():
    history = run([1.0, 1.0, 1.0, 1.0], slope=[-0.5, np.nan, -0.5, -0.5]).history
    assert np.isnan(reach(history)).tolist() == [False, True, False, False]
    assert np.isnan(course(3).slope).all()


def test_a_line_in_the_logarithm_of_the_steps_is_gone_on():
    steps = np.arange(400)
    loss = Losses(steps=steps, values=2 - 0.3 * np.log(steps + 1.0))
    goes = trend(loss)
    assert goes is not None
    assert goes.sure == 1
    assert goes.gain == pytest.approx(0.3 * np.log(1.5))
    assert goes.level == pytest.approx(2 - 0.3 * np.log(400))
    assert trend(Losses(steps=steps[:5], values=loss.values[:5])) is None
    assert trend(Losses(steps=steps * 0 + 9, values=loss.values)) is None
    assert trend(None) is None


@pytest.mark.parametrize(("back", "first"), [(4 / 3, 300), (2.0, 200), (inf, 0)])
def test_a_trend_goes_back_as_far_as_is_asked(back, first):
    """Of a loss that has come to rest in the last quarter."""
    log = np.log(np.arange(1, 401))
    values = 3 - 0.3 * np.minimum(log, log[300])
    goes = trend(Losses(steps=np.arange(400), values=values), back=back)
    assert goes is not None
    slope = np.polyfit(log[first:], values[first:], 1)[0]
    assert goes.gain == pytest.approx(-slope * np.log(1.5), abs=1e-9)
    assert goes.sure == (first < 300)


@pytest.mark.parametrize(("slope", "sure"), [(-1.0, 1), (0.0, 0), (1.0, -1)])
def test_a_trend_is_sure_beyond_its_noise(slope, sure):
    steps = np.arange(400)
    noise = np.random.default_rng(0).normal(size=400)
    goes = trend(Losses(steps=steps, values=slope * np.log(steps + 1.0) + noise))
    assert goes is not None
    assert goes.sure == sure
