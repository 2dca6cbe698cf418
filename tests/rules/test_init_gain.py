from dataclasses import replace

import pytest

from hand_chains import ADAM, SGD, chain, output
from plumbob.judge import judge
from plumbob.rule import findings
from plumbob.rules.init_gain import init_gain
from plumbob.rules.step_too_long import step_too_long
from plumbob.settings import Settings
from plumbob.types import Needs, Severity, Stage, Step


def of(gain, spread=None, **more):
    """Three gains of which the last two are 1; z shrinks or grows by `spread`."""
    spread = gain if spread is None else spread
    norms = [1.0, gain, 1.0, 1.0]
    return chain([1.0, spread, spread, spread], norms=norms, **more)


def severities(survey):
    return [f.severity for f in findings(init_gain, survey)]


@pytest.mark.parametrize(
    ("gain", "optimizer", "severity"),
    [
        (0.0051, SGD, []),
        (0.0049, SGD, [Severity.WARNING]),
        (0.0049, ADAM, [Severity.INFO]),
        (0.0049, None, [Severity.INFO]),
        (2.1e-4, ADAM, [Severity.INFO]),
        (1.9e-4, ADAM, [Severity.WARNING]),
        (29.0, ADAM, []),
        (31.0, ADAM, [Severity.WARNING]),
    ],
)
def test_the_product_along_the_chain_decides(gain, optimizer, severity):
    assert severities(of(gain, optimizer=optimizer)) == severity


def test_it_is_the_product_of_the_gains():
    survey = chain([1.0, 0.1, 0.01, 0.001], norms=[9.0, 0.1, 0.1, 0.1])
    (finding,) = findings(init_gain, survey)
    assert finding.evidence["gain"] == pytest.approx(1e-3)
    assert finding.evidence["each"] == pytest.approx(0.1)
    assert (finding.site, finding.evidence["maps"]) == ("a0", 3)


def test_activations_take_their_part():
    """Half of z is above 0, so each ReLU lets 1 / sqrt(2) through."""
    survey = chain([1.0, 0.07, 0.005, 0.00035], norms=[1, 0.1, 0.1, 0.15])
    sites = tuple(replace(s, activation="relu") for s in survey.sites)
    z = {n: replace(r.z, positive=r.z.count // 2) for n, r in survey.readings.items()}
    readings = {n: replace(r, z=z[n]) for n, r in survey.readings.items()}
    (finding,) = findings(init_gain, replace(survey, sites=sites, readings=readings))
    assert finding.evidence["gain"] == pytest.approx(0.0015 / 8**0.5)


@pytest.mark.parametrize("stage", [Stage.UNKNOWN, Stage.TRAINED])
def test_only_initial_weights_are_judged(stage):
    assert not severities(of(1e-5, stage=stage))


def test_what_the_spread_does_not_confirm_is_not_told():
    assert not severities(of(1e-5, spread=1.0))  # a factor in the activation
    assert not severities(of(1e3, spread=1.0))  # a bounded activation


def test_a_head_begun_near_zero_is_no_loss():
    quiet = chain([1.0, 1.0, 1.0, 1e-4], norms=[1, 1, 1, 1e-4])
    assert not severities(quiet)
    loud = chain([1.0, 1.0, 1e-4, 1e-4], norms=[1, 1, 1e-4, 1])
    assert severities(loud) == [Severity.WARNING]


def test_two_maps_are_no_chain():
    assert not severities(chain([1.0, 1e-5], norms=[1, 1e-5]))


def test_steps_that_are_too_long_come_of_weights_that_are_too_large():
    losses = (1.0, 8.0, 9.0, 7.0, 6.0)
    step = Step(samples=8, losses=losses, curvature=9.0)
    survey = of(100, optimizer=SGD, output=output(1.0), step=step)
    survey = replace(survey, known=survey.known | Needs.STEP | Needs.OPTIMIZER)
    (root,) = judge(survey, (init_gain, step_too_long), Settings()).findings
    assert root.code == "PB104"
    assert [f.code for f in root.consequences] == ["PB503"]
