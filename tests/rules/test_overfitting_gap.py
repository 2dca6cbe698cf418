import numpy as np
import pytest

from hand_losses import run, told, wavy
from nets_history_loss import overfitting_gap as zoo
from plumbob.rule import findings
from plumbob.rules.overfitting_gap import overfitting_gap
from watched import codes


@pytest.mark.parametrize("leans", [True, False])
def test_the_zoo(leans):
    assert ("PB710" in codes(zoo(leans=leans))) is leans


FALLS = np.linspace(1, 0.01, 200)


def held(last, low=0.5, first=1.0):
    return [*np.linspace(first, low, 10), *np.linspace(low, last, 10), last, last]


@pytest.mark.parametrize(
    ("last", "found"),
    [(0.54, []), (0.56, ["info"]), (0.74, ["info"]), (0.76, ["warning"])],
)
def test_what_is_lost_of_the_gain(last, found):
    assert told(overfitting_gap, run(FALLS, held=held(last))) == found


def test_what_may_be_cross_entropy_is_a_note():
    """A constant output over two classes costs 0.69 at the most."""
    survey = run(0.7 * FALLS, held=held(2.0, low=0.3), constant=0.69)
    assert told(overfitting_gap, survey) == ["info"]


def test_a_training_loss_that_rises_too_is_another_fault():
    rises = np.concatenate([np.linspace(1, 0.2, 100), np.linspace(0.2, 0.9, 100)])
    assert told(overfitting_gap, run(rises, held=held(0.9))) == []


def test_noise_is_no_rise():
    noisy = wavy(np.full(20, 0.6), 0.2)
    assert told(overfitting_gap, run(FALLS, held=noisy)) == []


def test_the_lowest_point_must_have_passed_some_time_ago():
    values = [*np.linspace(1, 0.5, 10), 0.9, 0.9]
    assert told(overfitting_gap, run(FALLS, held=values)) == []


def test_the_step_to_keep_is_told():
    (found,) = findings(overfitting_gap, run(FALLS, held=held(0.8)))
    assert found.evidence["lost"] == pytest.approx(0.6, abs=0.06)
    assert str(found.evidence["at"]) in found.remedy.advice
