from dataclasses import replace

import numpy as np
import pytest

from hand import normals, one
from plumbob.rule import findings
from plumbob.rules.saturated_unit import saturated_unit
from plumbob.types import Severity, Stage

STEEP = 2.18  # 1 - tanh(z)^2 < 0.05


def tanh(z, **changes):
    return one(z, steep=STEEP, **{"activation": "tanh"} | changes)


def mixed(share, samples=100):
    """Every unit: `share` of the values at 4, the rest at 0."""
    return np.where(np.arange(samples) < share * samples, 4.0, 0.0)[:, None] + [0, 0]


@pytest.mark.parametrize(("share", "fires"), [(0.74, False), (0.75, True)])
def test_share_of_values(share, fires):
    found = list(findings(saturated_unit, tanh(mixed(share))))
    assert [f.evidence["share"] for f in found] == ([share] if fires else [])


@pytest.mark.parametrize(("samples", "verdict"), [(4, False), (5, True)])
def test_few_samples_give_no_verdict(samples, verdict):
    survey = tanh(np.full((samples, 3), 5.0))
    assert bool(list(findings(saturated_unit, survey))) == verdict


def test_stuck_by_the_bias_or_by_the_mean_of_the_input():
    z = 0.3 * normals(100, 4) + 5
    by_bias = next(findings(saturated_unit, tanh(z, bias=[5, 4, 4, 1])))
    assert by_bias.severity is Severity.WARNING
    assert by_bias.evidence["stuck"] == 4
    assert by_bias.evidence["by_bias"] == 3
    assert by_bias.cause.startswith("the bias: it moves 3 units out")
    by_mean = next(findings(saturated_unit, tanh(z, bias=[0, 0, 0, 0])))
    assert by_mean.cause.startswith("w.mu: the mean of x")
    assert by_mean.evidence["balanced"] == pytest.approx(-5)  # b - E[z]


@pytest.mark.parametrize(
    ("stage", "severity"),
    [
        (Stage.INIT, Severity.WARNING),
        (Stage.TRAINED, Severity.INFO),
        (Stage.UNKNOWN, Severity.INFO),
    ],
)
def test_both_sides_are_a_code_once_trained(stage, severity):
    found = next(findings(saturated_unit, tanh(20 * normals(100, 4), stage=stage)))
    assert found.severity is severity
    assert found.evidence["stuck"] == 0
    assert found.cause.startswith("the weights' size")


def test_an_input_of_sd_20_explains_it_and_is_a_fault_unless_trained():
    z, x = 20 * normals(100, 4), 20 * normals(100, 6)
    found = next(findings(saturated_unit, tanh(z, x=x)))
    assert found.severity is Severity.WARNING
    assert found.cause.startswith("the input's size")
    assert found.evidence["input_sd"] == pytest.approx(20)
    survey = tanh(z, x=x, stage=Stage.TRAINED)
    assert next(findings(saturated_unit, survey)).severity is Severity.INFO


@pytest.mark.parametrize(
    "changes",
    [
        {"is_output": True},
        {"kind": "recurrent"},
        {"norm": "batch-norm"},
        {"activation": "relu"},
    ],
)
def test_where_saturation_is_no_fault(changes):
    assert not list(findings(saturated_unit, tanh(np.full((50, 3), 5.0), **changes)))


def test_not_judged_without_the_count():
    survey = tanh(np.full((50, 3), 5.0))
    reading = replace(survey.readings["fc1"], saturated=None)
    survey = replace(survey, readings={"fc1": reading})
    assert not list(findings(saturated_unit, survey))


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({"activation": "sigmoid", "gates": True}, Severity.INFO),
        ({"activation": "sigmoid", "gates": False}, Severity.WARNING),
        ({"activation": "tanh", "gates": True}, Severity.WARNING),
    ],
)
def test_a_gate_may_be_shut_or_open(changes, severity):
    z = 0.3 * normals(100, 4) - 5
    found = next(findings(saturated_unit, one(z, steep=4.36, bias=[-5] * 4, **changes)))
    assert found.severity is severity


@pytest.mark.parametrize(
    ("z", "x", "bias", "own"),
    [
        (0.3 * normals(100, 4) + 5, None, [5] * 4, True),  # the bias
        (0.3 * normals(100, 4) + 5, None, [0] * 4, False),  # the mean of x
        (20 * normals(100, 4), normals(100, 6) / 2, None, True),  # the weights
        (20 * normals(100, 4), 20 * normals(100, 6), None, False),  # the input
    ],
)
def test_what_the_layer_brings_with_it_is_a_root(z, x, bias, own):
    found = next(findings(saturated_unit, tanh(z, x=x, bias=bias)))
    assert found.own_cause is own


def test_inside_the_network_nobody_can_divide_the_input():
    z, x = 20 * normals(100, 4), 20 * normals(100, 6)
    inside = tanh(z, x=x, reads_input=False, fed_by=("stem",))
    assert next(findings(saturated_unit, inside)).remedy.advice == (
        "Scale down what feeds it (stem), or put a norm before it."
    )
    by_mean = tanh(0.3 * normals(100, 4) + 5, reads_input=False)
    advice = next(findings(saturated_unit, by_mean)).remedy.advice
    assert advice.startswith("Put a norm before this map, or bring")
