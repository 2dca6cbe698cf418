from dataclasses import replace

import pytest

from hand_chains import ADAM, SGD, chain, output, signals
from plumbob.rule import findings
from plumbob.rules.vanishing_gradient import vanishing_gradient
from plumbob.types import Severity, Stage

ONES = [1.0] * 4


def of(ratio, *, later=None, places=None, **more):
    found = signals([ratio, 1.0, 1.0, 1.0], later=later, places=places)
    return chain(ONES, **{"output": output(2.0), "signals": found} | more)


def severities(survey):
    return [f.severity for f in findings(vanishing_gradient, survey)]


@pytest.mark.parametrize(
    ("ratio", "optimizer", "severity"),
    [
        (0.0051, SGD, []),
        (0.0049, SGD, [Severity.WARNING]),
        (0.0049, ADAM, [Severity.INFO]),
        (0.0049, None, [Severity.INFO]),
        (1.9e-4, ADAM, [Severity.WARNING]),
        (0.0, SGD, [Severity.INFO]),
    ],
)
def test_the_ratio_decides_by_the_optimiser(ratio, optimizer, severity):
    assert severities(of(ratio, optimizer=optimizer)) == severity


@pytest.mark.parametrize(
    ("loss", "told"), [(2.5, True), (1.81, True), (1.79, False), (0.0, False)]
)
def test_a_net_that_learns_is_left_in_peace(loss, told):
    assert bool(severities(of(1e-5, output=output(loss)))) is told


@pytest.mark.parametrize(
    ("later", "told"), [(1e-5, True), (0.9e-4, True), (1.1e-4, False), (0.01, False)]
)
def test_a_gradient_that_grows_in_a_few_steps_has_not_vanished(later, told):
    assert bool(severities(of(1e-5, later=[later, 1, 1, 1]))) is told


def test_zero_that_becomes_something_is_a_beginning_at_zero():
    assert not severities(of(0.0, later=[1e-9, 1, 1, 1]))
    assert severities(of(0.0, later=[0.0, 1, 1, 1])) == [Severity.INFO]


def test_it_reads_well_where_modules_have_numbers_for_names():
    survey = of(1e-3, optimizer=SGD)
    (one,) = findings(vanishing_gradient, survey)
    last = survey.sites[one.evidence["maps"]].name
    count = one.evidence["maps"]
    maps = "map" if count == 1 else "maps"
    assert one.message == (
        f"0.001 of the gradient is left here, {count} {maps} before {last!r}"
    )


def test_what_is_not_finite_is_no_ratio():
    found = signals([float("nan"), 1.0, float("inf"), 1.0])
    assert not severities(of(1.0, signals=found))


def test_positions_that_are_averaged_later_are_made_up_for():
    assert severities(of(0.001, optimizer=SGD))
    assert not severities(of(0.001, optimizer=SGD, places=[64, 1, 1, 1]))


def test_a_head_begun_near_zero_is_left_out():
    found = signals([1e-5, 1e-5, 1e-5, 1.0])
    assert not severities(of(1.0, signals=found))
    found = signals([1e-5, 1e-5, 1.0, 1.0])
    assert severities(of(1.0, signals=found)) == [Severity.WARNING]


def test_where_the_loss_cannot_be_asked_only_the_beginning_is_sure():
    survey = of(1e-5, output=None)
    assert severities(survey) == [Severity.WARNING]
    sites = tuple(replace(s, stage=Stage.UNKNOWN) for s in survey.sites)
    assert severities(replace(survey, sites=sites)) == [Severity.INFO]


def test_what_could_not_be_looked_at_again_is_a_note():
    once = replace(signals([1e-5, 1.0, 1.0, 1.0]), not_repeated="no copy")
    assert severities(of(1.0, signals=once)) == [Severity.INFO]
