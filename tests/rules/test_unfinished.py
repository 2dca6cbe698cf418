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
        (fall(1, 0.84), ["info"]),
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


def test_the_gain_is_twice_the_last_fall():
    (found,) = findings(unfinished, run(fall(1, 0.8, 401)))
    assert found.evidence["gain"] == pytest.approx(0.1, rel=0.02)
