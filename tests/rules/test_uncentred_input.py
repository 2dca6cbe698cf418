import numpy as np
import pytest

from hand import normals, one
from plumbob.rule import findings
from plumbob.rules.uncentred_input import uncentred_input
from plumbob.types import Severity


def top(x):
    one = np.hstack([x, np.ones((len(x), 1))])
    return float(np.linalg.eigvalsh(one.T @ one / len(x))[-1])


def leans(x, **changes):
    return one(x[:, :2], x=x, top=(top(x), top(x - x.mean(0))), **changes)


@pytest.mark.parametrize(("mean", "fires"), [(4.89, False), (4.9, True)])
def test_the_slowdown_of_one_feature_is_that_of_its_closed_form(mean, fires):
    """x = mean +- 1: top is that of [[mean^2 + 1, mean], [mean, 1]], centred 1."""
    x = mean + np.tile([1.0, -1.0], 50)[:, None]
    trace = mean**2 + 2
    slowdown = (trace + (trace**2 - 4) ** 0.5) / 2
    survey = one(x, x=x, top=(top(x), top(x - x.mean(0))))
    found = list(findings(uncentred_input, survey, slowdown_above=25.95))
    assert [f.severity for f in found] == ([Severity.WARNING] if fires else [])
    if fires:
        assert found[0].evidence["slowdown"] == pytest.approx(slowdown)
        assert found[0].evidence["ratio"] == pytest.approx(mean**2)


def test_one_feature_is_told_apart_from_a_common_offset():
    x = normals(200, 6)
    common = next(findings(uncentred_input, leans(x + 5)))
    assert common.cause.startswith("all features together: |mu|^2 is 25 times")
    year = x.copy()
    year[:, 4] = 2000 + 10 * x[:, 4]
    lone = next(findings(uncentred_input, leans(year)))
    assert lone.cause.startswith("one feature: number 4 (mean 2000, sd 10)")


@pytest.mark.parametrize("samples", [2, 3, 10, 100])
def test_centred_noise_never_fires_however_few_samples(samples):
    x = np.random.default_rng(samples).standard_normal((samples, 500))
    found = list(findings(uncentred_input, leans(x), slowdown_above=3.0))
    assert not found


@pytest.mark.parametrize(
    ("samples", "changes"),
    [(1, {}), (50, {"norm": "batch-norm"}), (50, {"kind": "norm"})],
)
def test_silent(samples, changes):
    assert not list(
        findings(uncentred_input, leans(normals(50, 5)[:samples] + 9, **changes))
    )


def test_a_constant_input_is_not_this_fault():
    assert not list(findings(uncentred_input, leans(np.full((50, 5), 3.0))))


@pytest.mark.parametrize(("mean", "fires"), [(31.6, False), (31.7, True)])
def test_inside_it_is_info_and_rare(mean, fires):
    x = normals(50, 5) + mean
    found = list(findings(uncentred_input, one(x, x=x, reads_input=False)))
    assert [f.severity for f in found] == ([Severity.INFO] if fires else [])
