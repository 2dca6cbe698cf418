from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import plumbob
from hand_losses import run, told, wavy
from nets_history_loss import loss_non_finite as zoo
from plumbob.rule import findings
from plumbob.rules.loss_non_finite import loss_non_finite
from plumbob.types import Break, Losses, Severity
from watched import codes


@pytest.mark.parametrize("leans", [True, False])
def test_the_zoo(leans):
    watch = zoo(leans=leans)
    assert ("PB701" in codes(watch)) is leans


def broken(value=np.nan, *, at=10, until=None, **marks):
    values = wavy(np.full(30, 0.5))
    values[at:until] = value
    return run(values, **marks)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told_with_its_step(value):
    (found,) = findings(loss_non_finite, broken(value))
    assert (found.evidence["step"], found.evidence["losses"]) == (10, 20)
    assert found.severity.name == "ERROR"
    assert told(loss_non_finite, run(wavy(np.full(30, 0.5)))) == []


def test_a_loss_that_is_finite_again_is_a_warning():
    (found,) = findings(loss_non_finite, broken(until=11))
    assert found.severity.name == "WARNING"
    assert "finite again" in found.message


def test_what_broke_first_is_named():
    gradient = np.full(30, 1.0)
    gradient[5:] = np.inf
    (found,) = findings(loss_non_finite, broken(gradient=gradient, size=1.0))
    assert (found.evidence["step"], found.evidence["gradients"]) == (5, 1)
    assert "going backward" in found.cause
    (found,) = findings(loss_non_finite, broken(gradient=gradient, size=gradient))
    assert found.evidence["weights"] == 1
    assert found.severity.name == "ERROR"
    (found,) = findings(loss_non_finite, broken(gradient=1.0, size=1.0))
    assert "no weight was broken before" in found.cause


@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_weights_that_are_nan_are_broken_though_no_loss_is_told(scale):
    """As the stream tells them: without a size, their gradients infinite."""
    broken = np.arange(30) >= 20
    gradient, size = np.where(broken, np.inf, 1.0), np.where(broken, np.nan, 1.0)
    gradient[19] = np.inf
    survey = run(np.full(30, 0.5), gradient=gradient, size=size)
    scales = np.full(30, scale)
    history = replace(survey.history, losses={}, scales=scales)
    (found,) = findings(loss_non_finite, replace(survey, history=history))
    assert found.severity.name == "ERROR"
    assert "again" not in found.message
    assert found.evidence["step"] == (19 if scale == 1 else 20)


def test_a_gradient_that_overflows_under_loss_scaling_is_part_of_the_search():
    gradient = np.full(30, 1.0)
    gradient[2] = np.inf
    survey = run(wavy(np.full(30, 0.5)), gradient=gradient, size=1.0)
    assert told(loss_non_finite, survey) == ["warning"]
    scaled = replace(survey.history, scales=np.full(30, 2.0**16))
    assert told(loss_non_finite, replace(survey, history=scaled)) == []


@pytest.mark.parametrize(("last", "steps"), [(5.1, True), (4.9, False)])
def test_a_loss_that_rose_before_was_thrown(last, steps):
    survey = run([0.5, 0.6, 0.8, last, np.nan, np.nan])
    (found,) = findings(loss_non_finite, survey)
    assert ("throw" in found.cause) is steps
    assert found.evidence["before"] == last


def origin(cause, **facts):
    """Return what first gave such a value."""
    usual = {"operation": "", "place": None, "parameter": None, "dtype": "float32"}
    usual |= {"low": 0.0, "high": 0.5, "limit": 3e38, "values": 3, "nans": 3, "of": 9}
    return Break(**usual | {"cause": cause, "reaches": "loss"} | facts)


def test_the_operation_that_broke_is_the_cause_where_it_is_known():
    place = origin("log-of-zero", operation="log", place="head", nans=0)
    (found,) = findings(loss_non_finite, replace(broken(), first_break=place))
    assert "log in head is the first to give such a value (log of zero)" in found.cause
    assert found.evidence["high"] == pytest.approx(0.5)


@pytest.mark.parametrize(("at", "says"), [(10, "no weight was broken"), (0, "first")])
def test_weights_that_a_step_has_spoilt_are_no_origin(at, says):
    place = origin("weight", place="head", parameter="head.weight")
    (found,) = findings(loss_non_finite, replace(broken(at=at), first_break=place))
    assert says in found.cause
    assert ("head.weight" in found.cause) is (at == 0)
    assert "head" not in found.remedy.advice


@pytest.mark.parametrize("cause", ["input", "target"])
def test_broken_data_are_told_also_where_the_loss_had_risen(cause):
    rose = run([0.5, 0.6, 0.8, 5.1, np.nan, np.nan])
    (found,) = findings(loss_non_finite, replace(rose, first_break=origin(cause)))
    assert f"3 of 9 numbers in the {cause} of that batch are NaN" in found.cause


def test_weights_that_broken_data_have_spoilt_are_its_consequence():
    """And so is the first value that was not finite: the input."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.randn(12, 4), torch.randn(12, 1)
    x[7, 2] = torch.nan
    with plumbob.watch(
        model, optimizer, loss=nn.functional.mse_loss, every=5, on_finding=None
    ) as watch:
        for at in (0, 6, 0):  # the second batch is broken
            optimizer.zero_grad()
            rows = slice(at, at + 6)
            watch.loss(model(x[rows]), y[rows]).backward()
            optimizer.step()
    (root,) = (f for f in watch.findings if f.severity > Severity.INFO)
    assert (root.code, root.evidence["step"]) == ("PB701", 1)
    assert "1 of 24 numbers in the input of that batch is NaN" in root.cause
    assert {"PB101", "PB208"} <= {f.code for f in root.consequences}


def test_one_of_several_series_is_enough():
    survey = broken()
    sound = Losses(steps=np.arange(30), values=np.ones(30))
    both = {"one": sound, "two": survey.history.loss}
    history = replace(survey.history, losses=both)
    assert told(loss_non_finite, replace(survey, history=history)) == ["error"]
