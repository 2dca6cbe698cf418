from dataclasses import replace

import numpy as np
import pytest

from hand import rows_of
from plumbob.rule import findings
from plumbob.rules.symmetric_units import symmetric_units
from plumbob.types import Severity


def judged(survey):
    return list(findings(symmetric_units, survey))


@pytest.mark.parametrize(("alike", "fires"), [(5, False), (6, True), (10, True)])
def test_more_than_half_of_the_layer(alike, fires):
    twin = np.arange(10)
    twin[:alike] = 0
    found = judged(rows_of(twin=twin))
    assert bool(found) == fires
    if found:
        assert found[0].severity is Severity.ERROR
        assert found[0].units == tuple(range(alike))
        assert found[0].evidence["alike"] == alike
        assert found[0].evidence["distinct"] == 11 - alike


def test_pairs_are_not_one_unit():
    assert not judged(rows_of(twin=np.array([0, 0, 2, 2])))


ONE = np.zeros(4, int)


@pytest.mark.parametrize(
    ("facts", "fires"),
    [
        ({"norm": np.zeros(4)}, False),  # a last layer, a residual end, LoRA's B
        ({"norm": np.zeros(4), "outgoing_twin": ONE}, True),  # zero on both sides
        ({"norm": np.zeros(4), "outgoing_twin": np.arange(4)}, False),
        ({"outgoing_twin": np.arange(4)}, False),  # the readers part them
        ({"outgoing_twin": ONE}, True),
        ({"site": {"is_output": True}}, False),  # targets part them
        ({"site": {"trainable": False}}, False),
        ({"site": {"kind": "embedding"}}, False),
        ({"site": {"kind": "conv"}}, True),
    ],
)
def test_where_it_is_a_fault(facts, fires):
    facts = {"site": {}} | facts
    survey = rows_of(twin=ONE, **facts.pop("site"), **facts)
    assert bool(judged(survey)) == fires


@pytest.mark.parametrize("alike", [True, False])
def test_a_recurrent_unit_is_spread_over_two_weights(alike):
    own = rows_of(twin=ONE, kind="recurrent", name="r.weight_ih_l0")
    other = rows_of(
        twin=ONE if alike else np.arange(4), kind="recurrent", name="r.weight_hh_l0"
    )
    both = replace(
        own,
        sites=(*own.sites, *other.sites),
        readings={**own.readings, **other.readings},
    )
    assert bool(judged(both)) == alike
    assert not judged(own)
