import numpy as np
import pytest

from hand import normals, one
from plumbob.rule import findings
from plumbob.rules.bias_cancels_mean import bias_cancels_mean
from plumbob.types import Severity


def unit(b, beta, sd=1.0, units=1, **changes):
    z = sd * normals(100, units) + beta
    return one(z, bias=np.full(units, b), **changes)


def test_the_numbers_of_a_logistic_regression_on_a_mean_of_ten():
    found = next(findings(bias_cancels_mean, unit(-29.574, -0.009, 3.0)))
    assert found.evidence["shift"] == pytest.approx(29.565)
    assert found.evidence["cancelled"] == pytest.approx(1 - 0.009 / 29.574)
    assert found.evidence["kappa"] == pytest.approx(29.565 / 3)
    assert "100% of unit 0's (b = -29.57, w.mu = 29.57, E[z] = -0.009)" in found.message
    assert found.severity is Severity.INFO


@pytest.mark.parametrize(
    ("b", "beta", "fires"),
    [
        (3.01, 0.0, True),
        (2.99, 0.0, False),  # small against sd[z]
        (5.0, 0.99, True),
        (5.0, 1.01, False),  # a fifth and more of it is a threshold
        (-6.0, -6.0, False),  # a rare class, a sparse unit: b + w.mu is far out
        (40.0, 41.0, False),  # the offset of a target
    ],
)
def test_only_what_cancels(b, beta, fires):
    assert bool(list(findings(bias_cancels_mean, unit(b, beta)))) == fires


@pytest.mark.parametrize(("many", "fires"), [(4, False), (5, True)])
def test_one_odd_unit_is_no_finding(many, fires):
    z = normals(100, 10)
    found = list(
        findings(bias_cancels_mean, one(z, bias=[9] * many + [0] * (10 - many)))
    )
    assert [f.units for f in found] == ([tuple(range(many))] if fires else [])


def test_what_the_mean_costs_is_told_by_another_rule():
    survey = unit(9, 0, top=(1000.0, 1.0))
    assert next(findings(bias_cancels_mean, survey)).severity is Severity.INFO


def test_a_constant_unit_and_one_before_batch_norm():
    assert not list(findings(bias_cancels_mean, unit(9, 0, sd=0.0)))
    assert not list(findings(bias_cancels_mean, unit(9, 0, norm="batch-norm")))
