"""Where a remedy can be followed, and where it stays by hand."""

from dataclasses import replace

import numpy as np
import pytest

from plumbob import remedies
from plumbob.types import (
    Census,
    Moments,
    Needs,
    Reading,
    Remedy,
    Rows,
    Safety,
    Site,
    Survey,
)

FC = Site(name="fc", kind="linear", out=3, fan_in=2, weight="fc.weight", bias="fc.bias")
UNITS = np.array([True, False, True])


def census(*shape, trainable=True):
    size = int(np.prod(shape))
    return Census(shape=shape, dtype="float32", count=size, trainable=trainable)


def survey(*sites, means=(1.0, -2.0), **tensors):
    sites = sites or (FC,)
    known = {"fc.weight": census(3, 2), "fc.bias": census(3)} | tensors
    none = np.zeros(2)
    x = Moments(
        count=np.full(2, 5),
        mean=np.array(means),
        m2=none,
        low=none,
        high=none,
        positive=np.zeros(2, int),
        nonfinite=np.zeros(2, int),
    )
    rows = Rows(norm=np.array([3.0, 4.0, 0.0]), columns=none, twin=np.arange(3))
    readings = {site.name: Reading(x=x, rows=rows, called=True) for site in sites}
    return Survey(sites=sites, known=Needs.WEIGHTS, readings=readings, tensors=known)


@pytest.mark.parametrize(
    ("site", "others", "tensors", "place"),
    [
        ({}, (), {}, ("fc.bias", 0)),
        ({"bias": None}, (), {}, None),
        ({}, (), {"fc.bias": census(3, trainable=False)}, None),
        ({}, ({},), {}, None),
        ({"rows": (3, 6)}, (), {"fc.bias": census(9)}, ("fc.bias", 3)),
        ({"rows": (3, 6)}, ({"rows": (0, 3)},), {"fc.bias": census(9)}, ("fc.bias", 3)),
        ({"rows": (3, 6)}, ({"rows": (3, 6)},), {"fc.bias": census(9)}, None),
        ({}, (), {"fc.bias": census(9)}, None),
    ],
)
def test_a_bias_of_its_own(site, others, tensors, place):
    mine = replace(FC, **site)
    more = [replace(FC, name=f"twin{i}", **o) for i, o in enumerate(others)]
    facts = survey(mine, *more, **tensors)
    assert remedies.own_bias(facts, mine) == place
    remedy = remedies.set_bias(facts, mine, "Set.", UNITS, np.array([1.0, 2.0, 3.0]))
    if place is None:
        assert (remedy.act, remedy.safety) == (None, Safety.MANUAL)
        return
    units = (place[1], place[1] + 2)
    assert remedy.arguments == {"parameter": place[0], "units": units, "values": (1, 3)}
    assert (remedy.act, remedy.safety) == ("set-bias", Safety.CHANGES_TRAINING)


def test_values_that_are_not_finite_are_not_written():
    values = np.array([np.nan, 0.0, 1.0])
    assert remedies.set_bias(survey(), FC, "Set.", UNITS, values).act is None
    assert remedies.set_bias(survey(), FC, "Set.", ~UNITS, values).act == "set-bias"


@pytest.mark.parametrize(
    "changes",
    [{"tied": ("head.weight",)}, {"weight": "none"}, {"name": "other"}],
)
def test_a_weight_that_others_use_is_not_drawn(changes):
    mine = replace(FC, **changes)
    facts = survey(mine, *([FC] if "name" in changes else []))
    none = np.zeros(3, bool)
    assert remedies.redraw(facts, mine, "Draw.", rows=UNITS, columns=none).act is None
    remedy = remedies.redraw(survey(), FC, "Draw.", rows=UNITS, columns=none)
    assert remedy.act == "redraw-units"
    assert remedy.arguments["sd"] == pytest.approx(4 / 2**0.5)
    assert remedy.arguments["rows"] == (0, 2)


@pytest.mark.parametrize(
    ("site", "keep", "safety"),
    [
        ({}, True, Safety.EXACT),
        ({}, False, Safety.CHANGES_TRAINING),
        ({"rows": (0, 3)}, True, Safety.MANUAL),
        ({"kind": "conv-transpose"}, True, Safety.MANUAL),
        ({"weight": "fc.in_proj_weight"}, True, Safety.MANUAL),
        ({"kind": "recurrent", "weight": "fc.weight_ih_l0"}, False, None),
        ({"kind": "recurrent", "weight": "fc.weight_hh_l0"}, False, Safety.MANUAL),
        ({"kind": "recurrent", "weight": "fc.weight_ih_l1"}, False, Safety.MANUAL),
    ],
)
def test_what_can_be_centred(site, keep, safety):
    mine = replace(FC, **site)
    remedy = remedies.centre(survey(mine), mine, "Centre.", keep=keep)
    assert remedy.safety is (safety or Safety.CHANGES_TRAINING)
    if remedy.act:
        assert remedy.arguments == {"site": "fc", "mean": (1, -2), "keep": keep}


def test_a_frozen_bias_cannot_keep_the_function():
    facts = survey(**{"fc.bias": census(3, trainable=False)})
    assert remedies.centre(facts, FC, "Centre.", keep=True).act is None
    assert remedies.centre(facts, FC, "Centre.", keep=False).act == "fold-centring"
    (reading,) = facts.readings.values()
    hidden = replace(facts, readings={"fc": replace(reading, called=False)})
    by_hand = remedies.centre(hidden, FC, "Centre.", keep=False)
    assert (by_hand.act, by_hand.safety) == (None, Safety.MANUAL)
    assert by_hand.advice == f"Centre. {remedies.PASSED_BY}"
    assert remedies.centre(survey(means=(1, np.inf)), FC, "", keep=False).act is None


@pytest.mark.parametrize(
    ("site", "act"),
    [
        ({}, "drop-null-bias"),
        ({"kind": "conv-transpose"}, "drop-null-bias"),
        ({"transposed": True}, None),
        ({"kind": "recurrent"}, None),
        ({"bias": "other.bias"}, None),
    ],
)
def test_a_null_bias_is_dropped_where_its_layer_can_do_without(site, act):
    facts = survey(replace(FC, **site))
    assert remedies.drop_bias(facts, "fc.bias", Remedy(advice="Drop.")).act == act
