from dataclasses import replace

import numpy as np
import pytest

from hand_losses import run, told, wavy
from nets_history_loss import oscillating_or_diverging as zoo
from plumbob.rule import findings
from plumbob.rules.oscillating_or_diverging import oscillating_or_diverging as rule
from plumbob.types import Group, Optimizer
from watched import codes


@pytest.mark.parametrize("leans", [True, False])
def test_the_zoo(leans):
    assert ("PB703" in codes(zoo(leans=leans))) is leans


def risen(to, count=100):
    return np.concatenate([np.full(10, 1.0), np.full(count - 10, float(to))])


@pytest.mark.parametrize(
    ("to", "found"),
    [(1.45, []), (1.55, ["warning"]), (9, ["warning"]), (11, ["error"])],
)
def test_how_far_it_has_risen(to, found):
    assert told(rule, run(wavy(risen(to), 0.001))) == found


@pytest.mark.parametrize(("to", "found"), [(9, ["info"]), (11, ["warning"])])
def test_without_a_constant_it_takes_more(to, found):
    assert told(rule, run(risen(to), constant=None, floor=None)) == found


def test_a_loss_below_a_constants_has_not_diverged():
    low = np.concatenate([np.full(10, 0.1), np.full(90, 0.3)])
    assert told(rule, run(low)) == []


def test_a_spike_that_passes_is_none():
    values = wavy(np.full(100, 0.5))
    values[40:50] = 1e4
    assert told(rule, run(values)) == []


@pytest.mark.parametrize(("slope", "found"), [(-1.9, []), (-2.1, ["warning"])])
def test_steps_beyond_twice_polyaks_of_a_run_that_learns_nothing(slope, found):
    nothing = np.full(100, 1.0)
    assert told(rule, run(nothing, slope=slope)) == found
    assert told(rule, run(np.full(100, 0.9), slope=slope)) == []
    first = np.where(np.arange(100) < 5, slope, -0.1)
    assert told(rule, run(nothing, slope=first)) == found


@pytest.mark.parametrize(("steps", "found"), [(99, []), (100, ["warning"])])
def test_a_run_that_goes_on_gets_time(steps, found):
    assert told(rule, run(risen(5, steps), over=False)) == found


def test_the_learning_rate_is_divided_by_the_length_of_the_steps():
    survey = run(np.full(100, 1.0), slope=-20.0)
    group = Group(parameters=("out.weight",), lr=4.0)
    survey = replace(survey, optimizer=Optimizer(name="SGD", steps=1, groups=(group,)))
    (found,) = findings(rule, survey)
    assert found.remedy.act == "set-learning-rate"
    assert found.remedy.arguments["rates"] == pytest.approx((0.2,))


@pytest.mark.parametrize(("best", "found"), [(0.7, ["warning"]), (0.8, [])])
def test_what_was_learnt_and_lost(best, found):
    values = np.concatenate([np.linspace(1, best, 80), np.full(80, 1.0)])
    values[40:80] = best
    assert told(rule, run(wavy(values, 0.001))) == found


@pytest.mark.parametrize(
    ("swing", "end", "found"),
    [(3, 0.6, ["warning"]), (2.7, 0.6, []), (3, 0.4, [])],
)
def test_losses_that_swing_by_more_than_there_is_to_learn(swing, end, found):
    """Up and down by s, neighbours differ by 2 s: a standard deviation of 1.4 s."""
    values = wavy(np.full(160, 1.0), 0.0)
    values[:60] = wavy(np.full(60, 3.0), swing)
    values[80:] = end
    assert told(rule, run(values)) == found


@pytest.mark.parametrize(
    ("apart", "to", "found"), [(9, 9, ["warning"]), (11, 9, []), (20, 30, [])]
)
def test_single_spikes_make_no_wild_run(apart, to, found):
    """Each is apart from two; heavy tails of the targets give a few in a hundred."""
    values = np.full(160, 0.6)
    values[4::apart] = to
    assert told(rule, run(values)) == found


@pytest.mark.parametrize("count", [24, 100])
def test_noise_about_the_constants_loss_is_no_loss_of_what_was_learnt(count):
    noise = [np.random.default_rng(seed).normal(size=count) for seed in range(50)]
    found = [told(rule, run(np.maximum(1 + 0.6 * some, 0.01))) for some in noise]
    assert sum(map(bool, found)) <= 1  # of 50; it was 7 and 3


@pytest.mark.parametrize(
    ("level", "slope", "found"),
    [
        (1.2, -0.05, ["warning"]),
        (1.2, -0.02, []),
        (1.04, -0.05, []),
    ],
)
def test_steps_that_undo_even_what_the_bias_learns(level, slope, found):
    """200 steps promise five times all there is at 0.03 a step."""
    survey = run(wavy(np.full(200, level), 0.05), slope=slope)
    assert told(rule, survey) == found
    if found:
        still = run(wavy(np.full(200, level), 0.05), slope=slope, over=False)
        assert told(rule, still) == []
        falls = run(np.linspace(2, level, 200), slope=slope)
        assert told(rule, falls) == []


@pytest.mark.parametrize(
    ("reach", "count", "known"),
    [(1.1, 100, "warning"), (0.9, 100, "info"), (0.9, 9, "warning")],
)
def test_a_rise_that_no_step_has_made(reach, count, known):
    """Targets that grow: each step is short of them."""
    values = np.linspace(1, 30, 100)
    slope = np.where(np.arange(100) < count, -reach * values, np.nan)
    unknown = {"constant": None, "floor": None}
    (found,) = findings(rule, run(values, slope=slope, **unknown))
    assert found.severity.name.lower() == known
    if known == "info":
        assert "none overshot" in found.cause
        assert found.evidence["reach"] == pytest.approx(0.9)
        assert told(rule, run(values, slope=slope)) == ["error"]  # undone, too
