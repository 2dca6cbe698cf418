from dataclasses import replace

import numpy as np
import pytest

from hand import normals, one
from plumbob.rule import findings
from plumbob.rules.decayed_raw_bias import decayed_raw_bias
from plumbob.types import Group, Needs, Optimizer, Reading, Severity


def survey(offset, decay=0.1, called=True, norm=None):
    """Return a site whose first two units of three have |w.mu| = offset sd[z]."""
    made = one(normals(64, 3), bias=np.zeros(3))
    (site,) = made.sites
    shift = np.array([offset, -offset, 0.0])
    reading: Reading = made.readings["fc1"]
    return replace(
        made,
        sites=(replace(site, bias="fc1.bias", norm=norm),),
        readings={"fc1": replace(reading, shift=shift, called=called)},
        known=Needs.ACTIVATIONS | Needs.OPTIMIZER,
        optimizer=Optimizer(
            name="SGD",
            steps=0,
            groups=(Group(parameters=("fc1.bias",), lr=0.1, weight_decay=decay),),
        ),
    )


@pytest.mark.parametrize(
    ("facts", "fires"),
    [
        ({"offset": 1.01}, True),
        ({"offset": 0.99}, False),
        ({"offset": 9.0, "decay": 0.0}, False),
        ({"offset": 9.0, "norm": "batch-norm"}, False),  # the norm takes the mean
        ({"offset": 9.0, "called": False}, False),
    ],
)
def test_a_decayed_bias_behind_a_mean_beyond_the_spread(facts, fires):
    found = list(findings(decayed_raw_bias, survey(**facts)))
    assert bool(found) is fires
    if fires:
        assert found[0].severity is Severity.INFO
        assert found[0].units == (0, 1)
        assert found[0].evidence["pull"] == pytest.approx(0.101)


def test_half_of_the_units_are_not_most():
    made = survey(9.0)
    reading = made.readings["fc1"]
    fewer = replace(reading, shift=np.array([9.0, 0.0, 0.0]))
    assert not list(findings(decayed_raw_bias, replace(made, readings={"fc1": fewer})))
