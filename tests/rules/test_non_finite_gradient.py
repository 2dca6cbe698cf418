from dataclasses import replace

import numpy as np

from hand import moments
from plumbob.rule import findings
from plumbob.rules.non_finite_gradient import non_finite_gradient
from plumbob.types import Gradient, Needs, Reading, Site, Survey

NAMES = ("first", "second", "third")


def survey(broken, nonfinite_z=()):
    sites = tuple(
        Site(name=n, kind="linear", out=2, fan_in=2, weight=f"{n}.weight")
        for n in NAMES
    )
    z = moments(np.ones((4, 2)))
    bad = replace(z, nonfinite=np.array([3, 0]))
    return Survey(
        sites=sites,
        known=Needs.GRADIENTS,
        gradients={
            f"{n}.weight": Gradient(reached=True, nonfinite=5 * (n in broken))
            for n in NAMES
        },
        readings={n: Reading(z=bad if n in nonfinite_z else z) for n in NAMES},
    )


def test_finite_gradients_are_silent():
    assert not list(findings(non_finite_gradient, survey(())))


def test_made_going_backward_behind_the_last_broken_map():
    (found,) = findings(non_finite_gradient, survey({"first", "second"}))
    assert found.site == "second"
    assert "backward" in found.cause
    assert found.message == (
        "the gradients of 2 of 3 parameters hold 10 NaN or infinite values"
    )


def test_made_going_forward_by_the_first_broken_z():
    broken = survey(NAMES, nonfinite_z={"second", "third"})
    (found,) = findings(non_finite_gradient, broken)
    assert found.site == "second"
    assert "(3 values)" in found.cause


def test_a_parameter_of_no_site_is_named():
    only = Survey(
        sites=(),
        known=Needs.GRADIENTS,
        gradients={"scale": Gradient(reached=True, nonfinite=1)},
    )
    (found,) = findings(non_finite_gradient, only)
    assert found.site == "scale"
