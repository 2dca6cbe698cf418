from dataclasses import replace

import numpy as np
import pytest

from hand_losses import MAP, run, told, wavy
from nets_history_loss import plateau as zoo
from plumbob.rule import findings
from plumbob.rules.plateau import plateau
from plumbob.types import Feed
from watched import codes


@pytest.mark.parametrize("leans", [True, False])
def test_the_zoo(leans):
    assert ("PB711" in codes(zoo(leans=leans))) is leans


@pytest.mark.parametrize(
    ("level", "found"),
    [(0.76, ["warning"]), (0.74, ["info"]), (0.11, ["info"]), (0.09, [])],
)
def test_what_is_left_counts(level, found):
    assert told(plateau, run(wavy(np.full(200, level), 0.001))) == found


def test_a_loss_that_falls_is_on_no_plateau():
    assert told(plateau, run(np.linspace(1, 0.8, 200))) == []


@pytest.mark.parametrize(
    ("steps", "over", "found"),
    [
        (999, False, []),
        (1000, False, ["warning"]),
        (50, True, ["warning"]),
        (49, True, []),
    ],
)
def test_it_must_have_lasted(steps, over, found):
    assert told(plateau, run(np.full(steps, 0.9), over=over)) == found


@pytest.mark.parametrize(("slope", "long"), [(-0.95, True), (-0.85, False)])
def test_long_steps_are_the_cause(slope, long):
    (found,) = findings(plateau, run(np.full(200, 0.9), slope=slope))
    assert ("too long" in found.cause) is long


def chain(width, outputs=2):
    first = replace(
        MAP,
        name="in",
        weight="in.weight",
        out=width,
        is_output=False,
        activation="relu",
        feeds=(Feed(site="out"),),
    )
    return first, replace(MAP, fan_in=width, out=outputs, fed_by=("in",))


@pytest.mark.parametrize(
    ("sites", "narrow"),
    [(chain(2), True), (chain(3), False), (chain(2, outputs=3), False)],
)
def test_a_narrow_map_is_named_but_for_an_autoencoder(sites, narrow):
    (found,) = findings(plateau, run(np.full(200, 0.5), sites=sites))
    assert (found.site == "in") is narrow
    assert (found.severity.name == "WARNING") is narrow


@pytest.mark.parametrize(
    ("units", "outputs", "found"), [(1, 2, ["warning"]), (2, 2, []), (1, 1, [])]
)
def test_a_crawl_through_a_strait(units, outputs, found):
    """One number cannot tell classes apart well; the loss still falls slowly."""
    falls = np.linspace(1, 0.7, 200)
    assert told(plateau, run(falls, sites=chain(units, outputs))) == found
    assert (
        told(plateau, run(np.linspace(1, 0.2, 200), sites=chain(units, outputs))) == []
    )
