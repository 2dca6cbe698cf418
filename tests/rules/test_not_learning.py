import numpy as np
import pytest

from hand_losses import run, told, wavy
from nets_history_loss import not_learning as zoo
from plumbob.rule import findings
from plumbob.rules.not_learning import not_learning
from watched import codes


@pytest.mark.parametrize("leans", [True, False])
def test_the_zoo(leans):
    assert ("PB702" in codes(zoo(leans=leans))) is leans


@pytest.mark.parametrize(
    ("level", "found"), [(0.96, ["warning"]), (0.94, []), (1.5, ["warning"])]
)
def test_what_is_learnt_counts(level, found):
    assert told(not_learning, run(wavy(np.full(100, level), 0.001))) == found


def test_noise_is_in_favour():
    """At 4 % learnt, but for noise that may hide one or two more."""
    assert told(not_learning, run(wavy(np.full(100, 0.96), 0.001))) == ["warning"]
    assert told(not_learning, run(wavy(np.full(100, 0.96), 0.08))) == []


@pytest.mark.parametrize(
    ("steps", "over", "found"),
    [
        (999, False, ["info"]),
        (1000, False, ["warning"]),
        (10, True, ["warning"]),
        (9, True, []),
    ],
)
def test_a_short_phase_is_a_note(steps, over, found):
    values = np.full(steps, 1.0)
    assert told(not_learning, run(values, over=over)) == found


def test_while_it_falls_it_is_a_note():
    values = np.linspace(3, 0.99, 100)
    assert told(not_learning, run(values)) == ["info"]


@pytest.mark.parametrize(("sd", "same"), [(0.009, True), (0.011, False)])
def test_outputs_that_do_not_differ_are_told_from_those_in_vain(sd, same):
    (found,) = findings(not_learning, run(np.full(50, 1.0), sd=sd))
    assert ("as good as constant" in found.cause) is same
    assert found.evidence["spread"] == pytest.approx(sd)


def test_without_a_constant_a_flat_loss_of_equal_outputs_tells():
    flat = {"constant": None, "floor": None}
    assert told(not_learning, run(np.full(50, 1.0), sd=1e-6, **flat)) == ["warning"]
    assert told(not_learning, run(np.full(50, 1.0), sd=1.0, **flat)) == []
    falls = np.linspace(1, 0.5, 50)
    assert told(not_learning, run(falls, sd=1e-6, **flat)) == []


@pytest.mark.parametrize(
    ("level", "floor", "found"),
    [(5.1, 4.999, ["warning"]), (5.1, 4.0, []), (4.0, 4.999, []), (8.0, 4.999, [])],
)
def test_where_no_output_is_better_than_a_constant(level, floor, found):
    survey = run(wavy(np.full(100, level)), constant=5.0, floor=floor)
    if floor > 4.5:
        assert told(not_learning, survey) == found


def test_a_first_batch_of_one_class_says_nothing():
    survey = run(wavy(np.full(100, 0.02)), constant=1e-6, floor=1e-6)
    assert told(not_learning, survey) == []
