from dataclasses import replace

import numpy as np
import pytest
import torch

import plumbob
from hand import rows_of
from nets import mlp, seeded
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
        assert found[0].severity is Severity.WARNING  # readers are not known
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


@pytest.mark.parametrize("reader", ["random", "constant"])
def test_an_error_only_where_the_readers_are_known_to_be_equal(reader):
    model = mlp(4, 8, 2)
    model[0].weight.data.fill_(0.1)
    if reader == "constant":
        model[2].weight.data.fill_(0.1)
    data = torch.randn(64, 4, generator=seeded())

    def severities(**data):
        found = plumbob.check(model, **data, select="PB102").findings
        return [f.severity for f in found if f.site == "0"]

    assert severities() == [Severity.WARNING]
    assert severities(data=data) == ([Severity.ERROR] if reader == "constant" else [])


def test_unused_units_may_be_one_unit_of_the_same_site():
    """What PB102 says to explain can happen: more than half is padded with zeros."""
    model = mlp(4, 8, 2)
    model[0].weight.data[:6] = 0
    model[2].weight.data[:, :6] = 0
    data = torch.randn(64, 4, generator=seeded())
    options = {"select": ("PB102", "PB103"), "stage": "trained"}
    (found,) = plumbob.check(model, data, **options).findings
    assert (found.code, found.site) == ("PB102", "0")
    assert [f.code for f in found.consequences] == ["PB103"]


def test_copies_at_another_layer_are_not_explained():
    model = mlp(4, 8, 8, 2)
    model[0].weight.data.fill_(0.1)
    model[2].weight.data[5] = model[2].weight.data[1]
    found = plumbob.check(model, select=("PB102", "PB107")).findings
    assert [(f.code, f.site) for f in found] == [("PB102", "0"), ("PB107", "2")]


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


def test_units_of_an_all_zero_net_are_dead_because_they_are_one():
    model = mlp(8, 16, 3)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(64, 8, generator=seeded())
    loss = torch.nn.functional.cross_entropy
    report = plumbob.check(model, x, targets=torch.arange(64) % 3, loss=loss)
    (root,) = (f for f in report.findings if f.severity > Severity.INFO)
    assert root.code == "PB102"
    assert [f.code for f in root.consequences] == ["PB201"]
