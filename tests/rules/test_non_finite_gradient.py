from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import plumbob
from hand import moments
from nets import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.non_finite_gradient import non_finite_gradient
from plumbob.types import Gradient, Needs, Reading, Severity, Site, Survey

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


X = torch.randn(64, 4, generator=seeded())
Y = torch.randn(64, 2, generator=seeded(1))
HOLE = X.clone().index_put_((torch.tensor(3), torch.tensor(2)), torch.tensor(np.nan))


class Log(nn.Module):
    def forward(self, x):
        return x.log()


def log_between():
    return nn.Sequential(nn.Linear(4, 8), Log(), nn.Linear(8, 2))


def checked(model=None, x=X, **options):
    """Return the one finding of PB403; what broke first may explain it."""
    report = plumbob.check(model or mlp(4, 8, 2), x, **options)
    every = [f for root in report.findings for f in (root, *root.consequences)]
    (found,) = [f for f in every if f.code == "PB403"]
    assert {f.code for f in every} <= {"PB208", "PB403", "PB603", "PB604"}, every
    return found


@pytest.mark.parametrize("loss", [None, nn.MSELoss()])
def test_a_hole_in_the_data_with_a_loss_or_without(loss):
    found = checked(x=HOLE, loss=loss, targets=None if loss is None else Y)
    assert found.site == "0"
    assert found.severity is Severity.ERROR
    assert found.units == tuple(range(8))
    assert "the data" in found.cause
    assert "(1 value in 1 feature)" in found.cause
    assert found.evidence["broken"] == 8  # one sample, every unit
    assert found.message.startswith("z holds 8" if loss is None else "the gradients")


@pytest.mark.parametrize(
    ("x", "y"), [(X, Y * torch.nan), (X * 1e30, Y)], ids=["targets", "overflow"]
)
def test_what_the_loss_makes_is_not_made_going_backward(x, y):
    found = checked(x=x, targets=y, loss=nn.MSELoss())
    assert "the loss is not" in found.cause
    assert "backward" not in found.cause
    assert found.evidence["broken"] == 0


def test_an_operation_between_two_maps():
    found = checked(log_between(), targets=Y, loss=nn.MSELoss())
    assert found.site == "2"
    assert "its x does already" in found.cause
    assert "between the map before and this one" in found.remedy.advice


def test_a_map_that_overflows():
    model = mlp(4, 8, 2)
    model[2].weight.data *= 3e38
    found = checked(model, x=10 * X)
    assert found.site == "2"
    assert "its sum overflows" in found.cause


def test_what_is_masked_before_the_loss_is_info():
    survey_ = survey((), nonfinite_z={"second"})
    (found,) = findings(non_finite_gradient, survey_)
    assert found.severity is Severity.INFO
    (found,) = findings(non_finite_gradient, replace(survey_, gradients={}))
    assert found.severity is Severity.ERROR
