from dataclasses import replace

import numpy as np
import pytest

from hand import normals, one
from plumbob.rule import findings
from plumbob.rules.starved_unit import starved_unit


def of(gradients, *, still=(), outgoing=None, **site):
    z = normals(64, len(gradients))
    z[:, list(still)] = -1.0
    survey = one(z, **site)
    reading = survey.readings["fc1"]
    rows = replace(reading.rows, outgoing=outgoing)
    held = replace(reading, rows=rows, grad_weight=np.array(gradients, float))
    return replace(survey, readings={"fc1": held})


def starved(survey):
    return [f.units for f in findings(starved_unit, survey)]


@pytest.mark.parametrize(
    ("size", "count", "told"),
    [(0.9e-4, 3, True), (1.1e-4, 3, False), (0.0, 2, False), (0.0, 3, True)],
)
def test_the_layers_median_and_share_decide(size, count, told):
    survey = of([size] * count + [1.0] * (20 - count))
    assert starved(survey) == ([tuple(range(count))] if told else [])


def test_a_layer_that_gets_nothing_at_all_is_not_starved():
    assert not starved(of([0.0] * 6))


@pytest.mark.parametrize(
    "site", [{"is_output": True}, {"kind": "embedding"}, {"trainable": False}]
)
def test_tables_outputs_and_frozen_maps_are_passed_over(site):
    assert starved(of([0.0, 0.0, 1, 1, 1, 1]))
    assert not starved(of([0.0, 0.0, 1, 1, 1, 1], **site))


def test_units_that_never_fire_are_left_to_the_rule_of_dead_units():
    sizes = [0.0, 0.0, 1, 1, 1, 1]
    assert not starved(of(sizes, still=(0, 1), activation="relu"))
    assert starved(of(sizes, activation="relu"))


def test_units_that_nothing_reads_are_told_apart():
    outgoing = np.array([0.0, 1, 1, 1, 1, 1])
    (finding,) = findings(starved_unit, of([0.0, 0.0, 1, 1, 1, 1], outgoing=outgoing))
    assert finding.evidence["unread"] == 1
    (finding,) = findings(starved_unit, of([0.0, 0.0, 1, 1, 1, 1]))
    assert finding.evidence["unread"] == 0
