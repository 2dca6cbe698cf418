import numpy as np
import pytest

from hand_losses import run, told, wavy
from nets_history_loss import labels_unrelated as zoo
from plumbob.rules.labels_unrelated import labels_unrelated
from watched import codes


@pytest.mark.parametrize("leans", [True, False])
def test_the_zoo(leans):
    assert ("PB719" in codes(zoo(leans=leans))) is leans


LEARNT = np.concatenate([np.linspace(1, 0.5, 100), np.full(100, 0.5)])


@pytest.mark.parametrize(("lowest", "found"), [(0.985, ["warning"]), (0.975, [])])
def test_a_held_out_loss_that_never_was_below_a_constants(lowest, found):
    held = [1.0, 1.1, lowest, 1.2, 1.3]
    assert told(labels_unrelated, run(LEARNT, held=held)) == found
    assert told(labels_unrelated, run(LEARNT, held=held[:4])) == []


@pytest.mark.parametrize(("over", "found"), [(True, ["warning"]), (False, [])])
def test_held_out_losses_may_come_later(over, found):
    survey = run(LEARNT, held=np.full(9, 1.1), over=over)
    assert told(labels_unrelated, survey) == found


def test_a_held_out_loss_that_still_falls_is_not_judged():
    assert told(labels_unrelated, run(LEARNT, held=np.linspace(40, 2, 9))) == []


@pytest.mark.parametrize(("learnt", "found"), [(0.06, ["warning"]), (0.04, [])])
def test_what_rises_elsewhere_is_memory(learnt, found):
    values, worse = np.full(200, 1 - learnt), wavy(np.linspace(1.02, 1.1, 9))
    assert told(labels_unrelated, run(values, held=worse)) == found
    assert told(labels_unrelated, run(values, held=worse[:4])) == []
    assert told(labels_unrelated, run(values, held=worse - 0.05)) == []
    assert told(labels_unrelated, run(values, held=wavy(np.full(9, 1.1)))) == []


def test_without_memory_there_is_none_to_speak_of():
    held = np.full(9, 1.1)
    assert told(labels_unrelated, run(np.full(200, 0.89), held=held)) == ["warning"]
    assert told(labels_unrelated, run(np.full(200, 0.91), held=held)) == []
    assert told(labels_unrelated, run(wavy(np.full(200, 0.89), 0.2), held=held)) == []


@pytest.mark.parametrize(
    ("slope", "found"), [(-0.026, ["warning"]), (-0.024, []), (-0.6, [])]
)
def test_what_is_promised_and_never_kept(slope, found):
    """200 steps promise five times all there is at 0.025 a step."""
    assert told(labels_unrelated, run(np.full(200, 1.0), slope=slope)) == found
    assert told(labels_unrelated, run(np.full(200, 0.9), slope=slope)) == []


def test_what_a_bad_start_has_paid_is_taken_off():
    values = wavy(np.concatenate([np.full(10, 20.0), np.full(190, 1.0)]), 0.001)
    assert told(labels_unrelated, run(values, slope=-0.1)) == []


@pytest.mark.parametrize(("steps", "found"), [(999, []), (1001, ["warning"])])
def test_a_run_that_goes_on_gets_time(steps, found):
    survey = run(np.full(steps, 1.0), slope=-0.1, over=False)
    assert told(labels_unrelated, survey) == found
