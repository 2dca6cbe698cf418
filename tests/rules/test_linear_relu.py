from dataclasses import replace

import numpy as np
import pytest

from hand import one
from plumbob.rule import findings
from plumbob.rules.linear_relu import linear_relu
from plumbob.types import Severity, Site


def ramp(units, linear, samples=100):
    """z rises from -1 to 1; linear units are 2 higher, from 1 to 3."""
    z = np.linspace(-1, 1, samples)[:, None] + np.zeros(units)
    z[:, :linear] += 2
    return z


def relu(z, **changes):
    return one(z, **{"activation": "relu"} | changes)


@pytest.mark.parametrize(("linear", "fires"), [(8, False), (9, True), (10, True)])
def test_share_of_the_layer(linear, fires):
    found = list(findings(linear_relu, relu(ramp(10, linear))))
    assert [f.units for f in found] == ([tuple(range(linear))] if fires else [])


@pytest.mark.parametrize(("samples", "verdict"), [(28, False), (29, True)])
def test_few_samples_give_no_verdict(samples, verdict):
    assert bool(list(findings(linear_relu, relu(ramp(4, 4, samples))))) == verdict


def test_a_warning_only_where_nothing_else_bends():
    survey = relu(ramp(4, 4))
    assert next(findings(linear_relu, survey)).severity is Severity.WARNING
    other = Site(
        name="fc2",
        kind="linear",
        out=4,
        fan_in=4,
        weight="fc2.weight",
        activation="gelu",
    )
    survey = replace(survey, sites=(*survey.sites, other))
    assert next(findings(linear_relu, survey)).severity is Severity.INFO


@pytest.mark.parametrize("name", ["layer_norm", "max_pool2d", "softmax", "mul"])
def test_no_affine_network_where_no_sites_activation_bends(name):
    survey = replace(relu(ramp(4, 4)), bends=(name,))
    assert next(findings(linear_relu, survey)).severity is Severity.INFO


@pytest.mark.parametrize(("high", "fires"), [(6.0, True), (6.1, False)])
def test_a_relu6_is_linear_up_to_6(high, fires):
    z = np.linspace(1, high, 100)[:, None] + np.zeros(4)
    assert bool(list(findings(linear_relu, relu(z, activation="relu6")))) == fires


def test_a_bias_of_its_own_is_a_root():
    z = ramp(2, 2)
    assert next(findings(linear_relu, relu(z, bias=[1.5, 2.0]))).own_cause
    assert not next(findings(linear_relu, relu(z, bias=[0.5, 1.0]))).own_cause


@pytest.mark.parametrize(("many", "own"), [(3, False), (4, True)])
def test_half_of_the_units_stay_on_anyway_where_the_bias_does_it(many, own):
    bias = [1.5] * many + [0.5] * (9 - many)
    assert next(findings(linear_relu, relu(ramp(9, 9), bias=bias))).own_cause is own


@pytest.mark.parametrize(
    ("reads_input", "advice"), [(True, "Subtract the mean"), (False, "Put a norm")]
)
def test_the_mean_is_taken_out_where_it_can_be(reads_input, advice):
    survey = relu(ramp(2, 2), bias=[0.5, 1.0], reads_input=reads_input)
    assert next(findings(linear_relu, survey)).remedy.advice.startswith(advice)


def test_the_bias_is_told_apart_from_the_mean_of_the_input():
    z = ramp(2, 2)  # min z = 1, E[z] = 2
    by_bias = next(findings(linear_relu, relu(z, bias=[1.5, 2.0])))
    assert by_bias.cause.startswith("the bias: 2 of them would rest without it")
    assert by_bias.evidence["balanced"] == pytest.approx(-0.5)
    by_mean = next(findings(linear_relu, relu(z, bias=[0.5, 1.0])))
    assert by_mean.cause.startswith("w.mu: 2 of them stay on without any bias")


@pytest.mark.parametrize(
    "changes", [{"activation": "tanh"}, {"norm": "batch-norm"}, {"is_output": True}]
)
def test_only_hidden_relus(changes):
    assert not list(findings(linear_relu, relu(ramp(4, 4), **changes)))


def test_a_constant_input_says_nothing_about_resting():
    assert not list(findings(linear_relu, relu(np.ones((100, 4)))))
