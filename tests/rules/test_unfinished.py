import numpy as np
import pytest

from hand_losses import run, told, wavy
from nets_history_loss import unfinished as zoo
from plumbob.rule import findings
from plumbob.rules.unfinished import unfinished
from plumbob.types import Severity


@pytest.mark.parametrize("leans", [True, False])
def test_the_zoo(leans):
    roots = zoo(leans=leans).findings
    found = [f for root in roots for f in (root, *root.consequences)]
    loud = {f.code for f in found if f.severity > Severity.INFO}
    assert ("PB718" in loud) is leans


def fall(first, last, count=200):
    return np.linspace(first, last, count)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (fall(1, 0.88), ["warning"]),
        (fall(1, 0.80), ["info"]),
        (fall(0.5, 0.47), []),
        (np.full(200, 0.9), []),
    ],
)
def test_most_must_be_left(values, found):
    assert told(unfinished, run(wavy(values, 0.001))) == found


@pytest.mark.parametrize(
    ("start", "count", "found"),
    [(2, 200, ["warning"]), (8, 200, ["info"]), (8, 250, ["warning"])],
)
def test_a_bad_start_is_repaid_first(start, count, found):
    """At the constant's loss, from above it."""
    assert told(unfinished, run(np.geomspace(start, 0.9, count))) == found


@pytest.mark.parametrize(
    ("last", "found"),
    [(0.52, ["warning"]), (0.3, ["info"]), (0.1, ["info"]), (0.03, [])],
)
def test_much_must_be_left_that_more_steps_would_gain(last, found):
    """Of a straight fall in log(steps)."""
    log = np.log(np.arange(1, 401)) / np.log(400)
    values = 1.6 - (1.6 - last) * log
    assert told(unfinished, run(values, slope=-0.0037 * values)) == found
    quiet = ["info"] if found else []
    assert told(unfinished, run(values, slope=-0.008 * values)) == quiet
    assert told(unfinished, run(wavy(values, 2.0))) == []


@pytest.mark.parametrize(("promised", "found"), [(1.4, ["warning"]), (1.6, [])])
def test_steps_that_promise_little_are_short(promised, found):
    """The loss of training is too noisy to tell; that on other data falls."""
    values, held = wavy(np.linspace(0.62, 0.61, 200), 0.2), np.linspace(0.7, 0.66, 9)
    slope = -promised / 200 * values
    assert told(unfinished, run(values, held=held, slope=slope)) == found
    rests = run(values, held=wavy(np.full(9, 0.7)), slope=slope)
    assert told(unfinished, rests) == []


@pytest.mark.parametrize(
    ("held", "found"),
    [
        (np.linspace(0.9, 0.7, 9), ["warning"]),
        (np.linspace(0.7, 0.9, 9), []),
        (wavy(np.full(9, 1.1)), []),
        (np.linspace(1.3, 1.1, 9), ["warning"]),
    ],
)
def test_more_steps_must_help_on_other_data(held, found):
    values = fall(1.3, 0.6)
    assert told(unfinished, run(values, held=held, slope=-0.007 * values)) == found


@pytest.mark.parametrize(("share", "found"), [(0.051, ["warning"]), (0.049, [])])
@pytest.mark.parametrize("checks", [40, 10])
def test_held_out_losses_at_rest_leave_nothing_to_gain(share, found, checks):
    """They fell until three quarters of the run, or of the half that few tell of."""
    values = np.concatenate([[1.0] * 5, fall(0.62, 0.55, 195)])
    end = 150 if checks == 40 else 90
    steps = np.linspace(0, 199, checks).astype(int)
    x = np.log((steps + 1) / 200)
    sure = 0.7 - share * 0.3 / np.log(1.5) * x + 0.001 * np.maximum(end - steps, 0)
    late, noise = steps >= max(end, 100), wavy(np.zeros(checks), 0.02)
    noise[late] -= np.polyval(np.polyfit(x[late], noise[late], 1), x[late])
    held = sure + noise  # which leaves the line through the late ones as it is
    assert told(unfinished, run(values, held=held, slope=-1.4 / 200 * values)) == found
    assert told(unfinished, run(values, slope=-1.4 / 200 * values)) == ["warning"]
    crawls = run(values, held=sure, slope=-1.4 / 200 * values)
    assert told(unfinished, crawls) == ["warning"]
    unknown = {"constant": None, "floor": None}
    quiet = ["info"] if found else []
    steep = np.concatenate([[1.0] * 5, fall(0.9, 0.55, 195)])
    assert told(unfinished, run(steep, held=held, **unknown)) == quiet


def test_a_handful_of_steps_at_the_constants_loss():
    assert told(unfinished, run([1.5, 1.5, 1, 1.3, 1.29])) == ["warning"]
    assert told(unfinished, run([0.5, 0.5, 0.3, 0.3, 0.29])) == []


def test_only_a_run_that_is_over_is_judged():
    assert told(unfinished, run(fall(1, 0.8), over=False)) == []


@pytest.mark.parametrize(("count", "found"), [(99, ["warning"]), (101, [])])
def test_few_noisy_steps_are_too_few_to_tell(count, found):
    values = wavy(np.full(count, 0.95), 0.15)
    assert told(unfinished, run(values)) == found


def test_without_a_constant_it_is_a_note():
    unknown = {"constant": None, "floor": None}
    assert told(unfinished, run(fall(1, 0.5), **unknown)) == ["info"]
    assert told(unfinished, run(fall(1, 0.99), **unknown)) == []


@pytest.mark.parametrize(("slope", "first"), [(-0.005, "Raise"), (-0.05, "Train")])
def test_short_steps_are_to_be_longer(slope, first):
    (found,) = findings(unfinished, run(fall(1, 0.8), slope=slope))
    assert found.remedy.advice.startswith(first)


def test_the_gain_is_that_of_half_as_many_steps_again():
    (found,) = findings(unfinished, run(1.5 - 0.15 * np.log(np.arange(1, 401))))
    assert found.evidence["gain"] == pytest.approx(0.15 * np.log(1.5))
