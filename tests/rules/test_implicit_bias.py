from dataclasses import replace

import numpy as np
import pytest

from hand import moments, normals, one
from plumbob.rule import findings
from plumbob.rules.implicit_bias import implicit_bias
from plumbob.types import Severity


def stream(size, *, share=1.0, noise=0.0, width=40, which=1, **site):
    """x is noise of size 1 but for coordinates that are `size` at some positions."""
    x = normals(400, width)
    at = np.arange(400) < 400 * share
    x[:, :which] += np.where(at, size, 0)[:, None]
    x[:, :which] *= 1 + noise * normals(400, which)
    survey = one(normals(400, 4), x=x, **{"reads_input": False} | site)
    return list(findings(implicit_bias, survey))


@pytest.mark.parametrize(("size", "fires"), [(1200, True), (900, False)])
def test_a_thousand_times_the_usual(size, fires):
    assert bool(stream(size)) is fires


def test_at_one_position_of_many():
    (told,) = stream(5000, share=0.01)
    assert told.severity is Severity.INFO
    assert told.evidence["positions"] == pytest.approx(0.01, rel=0.01)
    assert told.evidence["at"] == 0
    assert told.evidence["constant"] == pytest.approx(1, abs=0.01)


def test_what_varies_is_no_bias():
    assert stream(5000, noise=0.05)
    assert not stream(5000, noise=1.0)


@pytest.mark.parametrize(("which", "fires"), [(2, True), (3, False)])
def test_only_a_few_coordinates(which, fires):
    assert bool(stream(5000, which=which)) is fires


def test_the_input_is_not_judged():
    assert not stream(5000, reads_input=True)
    assert not stream(5000, is_output=True)


def test_the_end_of_a_residual_branch():
    z = normals(400, 40)
    z[:, 7] += 3000
    assert not list(findings(implicit_bias, one(z)))
    (told,) = findings(implicit_bias, one(z, ends_residual=True))
    assert told.evidence["at"] == 7
    broken = moments(z)
    broken.nonfinite[3] = 1
    survey = one(z, ends_residual=True)
    reading = replace(survey.readings["fc1"], z=broken)
    survey = replace(survey, readings={"fc1": reading})
    assert not list(findings(implicit_bias, survey))
