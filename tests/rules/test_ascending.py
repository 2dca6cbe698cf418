import numpy as np
import pytest
from torch import nn

from hand_losses import run, told
from nets_history_loss import ascending as zoo
from nets_history_loss import net, sgd, task, trained
from plumbob.rule import findings
from plumbob.rules.ascending import ascending
from watched import codes


@pytest.mark.parametrize("leans", [True, False])
def test_the_zoo(leans):
    assert ("PB717" in codes(zoo(leans=leans))) is leans


@pytest.mark.parametrize("lr", [0.01, 0.3])
@pytest.mark.parametrize("every", [1, 50])
def test_an_optimiser_that_maximises(lr, every):
    model = net()
    optimizer = sgd(model, lr, maximize=True)
    watch = trained(model, optimizer, nn.CrossEntropyLoss(), task(60), every=every)
    assert "PB717" in codes(watch)


def test_steps_that_are_too_long_are_no_ascent():
    model = net()
    watch = trained(model, sgd(model, 30.0), nn.CrossEntropyLoss(), task(60))
    assert "PB717" not in codes(watch)


RISES = np.linspace(1, 3, 20)
FIT = {"gradient": 1.0, "change": 1.0, "lr": 0.1, "pull": 0.0}


@pytest.mark.parametrize(("share", "found"), [(0.95, ["error"]), (0.9, [])])
def test_nearly_every_step_must_go_up(share, found):
    slope = np.where(np.arange(20) < round(20 * share), 0.1, -0.1)
    assert told(ascending, run(RISES, slope=slope, **FIT)) == found
    assert told(ascending, run(RISES[::-1], slope=slope, **FIT)) == []


@pytest.mark.parametrize(("pull", "found"), [(-0.6, ["error"]), (-0.4, []), (1, [])])
def test_the_pull_of_the_last_layer_tells_a_flipped_sign(pull, found):
    marks = FIT | {"pull": pull * (RISES - 1)}
    assert told(ascending, run(RISES, slope=-0.1, **marks)) == found


def test_a_loss_that_has_not_risen_far_is_not_asked():
    values = np.linspace(1, 1.49, 20)
    marks = FIT | {"pull": -(values - 1)}
    assert told(ascending, run(values, slope=-0.1, **marks)) == []
    (found,) = findings(
        ascending, run(RISES, slope=-0.1, **FIT | {"pull": -(RISES - 1)})
    )
    assert found.evidence["pulled"] == pytest.approx(-1)


@pytest.mark.parametrize(("times", "found"), [(-3.9, ["error"]), (-4.1, [])])
def test_outputs_near_targets_that_grow_have_a_small_loss_beside_their_pull(
    times, found
):
    marks = FIT | {"pull": times * RISES}
    assert told(ascending, run(RISES, slope=-0.1, **marks)) == found


@pytest.mark.parametrize(("last", "found"), [(1.55, ["error"]), (1.45, [])])
def test_a_loss_that_was_far_up_and_has_come_back_is_none(last, found):
    """Outputs that fell short of a few large targets, say."""
    values = np.where(np.arange(20) < 15, RISES, last)
    marks = FIT | {"pull": -(values - 1)}
    assert told(ascending, run(values, slope=-0.1, **marks)) == found
    up = FIT | {"pull": 0.0}
    levels = np.where(np.arange(20) < 19, 1.0, 0.9)
    levels[0] = 0.95
    assert told(ascending, run(levels, slope=0.1, **up)) == ["error"]


def test_a_loss_may_begin_below_0():
    marks = FIT | {"pull": -(RISES - 1)}
    survey = run(RISES - 2.0, slope=-0.1, constant=None, floor=None, **marks)
    assert told(ascending, survey) == ["error"]
