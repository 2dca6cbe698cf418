from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import plumbob
from hand import one
from plumbob.judge import judge
from plumbob.rule import findings
from plumbob.rules.dead_relu import dead_relu
from plumbob.settings import Settings
from plumbob.types import Feed, Output, Severity, Site


def chain(z, **changes):
    """fc1 -> relu -> fc2, the output."""
    survey = one(z, **{"feeds": (Feed(site="fc2"),), "activation": "relu"} | changes)
    fc2 = Site(
        name="fc2",
        kind="linear",
        out=2,
        fan_in=z.shape[1],
        weight="fc2.weight",
        fed_by=("fc1",),
        is_output=True,
    )
    return replace(survey, sites=(*survey.sites, fc2))


def ramp(units, dead, samples=100):
    """z falls from 1 to -1; dead units are 2 lower, from -1 to -3."""
    z = np.linspace(1, -1, samples)[:, None] + np.zeros(units)
    z[:, :dead] -= 2
    return z


@pytest.mark.parametrize(
    ("dead", "severity"),
    [
        (4, None),
        (5, Severity.INFO),
        (8, Severity.INFO),
        (9, Severity.WARNING),
        (10, Severity.ERROR),
    ],
)
def test_severity_follows_the_share(dead, severity):
    found = list(findings(dead_relu, chain(ramp(10, dead))))
    assert [f.severity for f in found] == ([] if severity is None else [severity])
    if found:
        assert found[0].units == tuple(range(dead))
        assert found[0].evidence["share"] == dead / 10


@pytest.mark.parametrize(("samples", "verdict"), [(28, False), (29, True)])
def test_few_samples_give_no_verdict(samples, verdict):
    found = list(findings(dead_relu, chain(ramp(4, 4, samples))))
    assert bool(found) == verdict
    if found:
        limit = found[0].evidence["fires_at_most"]
        assert (1 - limit) ** samples == pytest.approx(0.05)


def test_positions_are_not_samples():
    survey = chain(ramp(4, 4, 1000), samples=8)  # 125 positions in each of 8 images
    assert not list(findings(dead_relu, survey))


def test_the_bias_is_told_apart_from_the_mean_of_the_input():
    z = ramp(2, 2)  # max z = -1, E[z] = -2
    by_bias = next(findings(dead_relu, chain(z, bias=np.array([-1.5, -2.0]))))
    assert by_bias.evidence["by_bias"] == 2
    assert by_bias.cause.startswith("the bias: 2 of them fire without it")
    assert by_bias.evidence["balanced"] == pytest.approx(0.5)  # b - E[z] of unit 0
    assert by_bias.evidence["shift"] == pytest.approx(-0.5)
    by_mean = next(findings(dead_relu, chain(z, bias=np.array([-1.0, 0.5]))))
    assert by_mean.evidence["by_weights"] == 2
    assert by_mean.cause.startswith("w.mu: 2 of them")
    assert by_mean.remedy.advice.startswith("Subtract the mean of the input")


def test_an_input_that_does_not_vary():
    found = next(findings(dead_relu, chain(np.full((50, 3), -0.25))))
    assert found.evidence["by_input"] == 3
    assert found.cause == (
        "the input: it is the same for every sample, so z = -0.25 always"
    )


def trainable():
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    return model, {"data": x, "targets": torch.arange(64) % 3, "loss": cross_entropy}


@pytest.mark.parametrize("zeros", [16, 12])
@pytest.mark.parametrize("bias", [0.0, -0.1])
def test_zero_weights_are_not_an_input_that_does_not_vary(zeros, bias):
    model, given = trainable()
    model[0].weight.data[:zeros] = 0
    model[0].bias.data[:] = bias
    report = plumbob.check(model, **given)
    (one,) = (f for f in report.findings if f.code == "PB201")
    assert (one.evidence["by_zeros"], one.evidence["by_input"]) == (zeros, 0)
    assert one.cause.startswith("the weights: ")
    mended = plumbob.apply(one, model)
    assert (mended[0].weight[:zeros].norm(dim=1) > 0).all()
    assert torch.equal(mended[0].weight[zeros:], model[0].weight[zeros:])
    left = plumbob.check(mended, **given).findings
    assert "PB201" not in [f.code for f in left]


def test_weights_that_vanish_beside_the_bias_are_not_an_input_that_does_not_vary():
    model, given = trainable()
    model[0].weight.data *= 1e-12
    model[0].bias.data[:] = -1
    one = next(f for f in plumbob.check(model, **given).findings if f.code == "PB201")
    assert (one.evidence["by_zeros"], one.evidence["by_input"]) == (16, 0)


def test_inputs_that_are_all_the_same_are_still_to_blame():
    model, given = trainable()
    model[0].bias.data[:] = -9
    report = plumbob.check(model, **given | {"data": torch.ones(64, 8)})
    (one,) = (f for f in report.findings if f.code == "PB201")
    assert one.evidence["by_input"] == 16
    assert one.remedy.act is None


@pytest.mark.parametrize(
    ("also", "severity"), [((), Severity.ERROR), (("fc2",), Severity.WARNING)]
)
def test_a_path_around_a_dead_layer_makes_it_a_warning(also, severity):
    survey = chain(ramp(4, 4), reads_input=False)
    stem = Site(
        name="stem",
        kind="linear",
        out=3,
        fan_in=3,
        weight="stem.weight",
        feeds=tuple(Feed(site=name) for name in ("fc1", *also)),
        reads_input=True,
    )
    survey = replace(survey, sites=(stem, *survey.sites))
    assert next(findings(dead_relu, survey)).severity is severity


def test_the_layer_after_a_dead_one_names_it():
    survey = chain(ramp(4, 4))
    fc1, fc2 = survey.sites
    fc2 = replace(fc2, activation="relu", out=3)
    reading = one(np.full((100, 3), -0.25)).readings["fc1"]
    survey = replace(
        survey,
        sites=(fc1, fc2),
        readings={**survey.readings, "fc2": reading},
    )
    second = list(findings(dead_relu, survey))[1]
    assert second.cause.endswith("because fc1 is dead")
    assert second.remedy.advice == "Revive fc1 first."
    folded = judge(survey, (dead_relu,), Settings()).findings
    assert [f.site for f in folded] == ["fc1"]
    assert [f.site for f in folded[0].consequences] == ["fc2"]


@pytest.mark.parametrize(
    ("target", "severity"), [([0.3, 0.3, 0.4], Severity.WARNING), ([0, 0.6, 0.4], None)]
)
def test_one_dead_output_is_a_fault_where_targets_ask_for_it(target, severity):
    zeros = np.zeros(3)
    output = Output(
        site="fc1",
        loss=1.0,
        shifted=1.0,
        zero=1.0,
        constant=1.0,
        shift=zeros,
        best=zeros,
        mean_output=zeros,
        mean_target=np.array(target, float),
    )
    survey = one(ramp(3, 1), activation="relu", is_output=True)
    found = list(findings(dead_relu, replace(survey, output=output)))
    assert [f.severity for f in found] == ([severity] if severity else [])


@pytest.mark.parametrize(
    "changes", [{"activation": "gelu"}, {"activation": None}, {"norm": "batch-norm"}]
)
def test_only_where_z_meets_a_relu(changes):
    assert not list(findings(dead_relu, chain(ramp(4, 4), **changes)))


def test_the_bias_of_a_norm_is_a_bias():
    """A norm has no rows: what it added is E[z] - w.mu."""
    z = np.linspace(-1, 1, 100)[:, None] - 30
    survey = chain(z, kind="norm")
    reading = replace(survey.readings["fc1"], rows=None, shift=np.zeros(1))
    (found,) = findings(dead_relu, replace(survey, readings={"fc1": reading}))
    assert found.evidence["by_bias"] == 1
    assert found.evidence["b"] == pytest.approx(-30)


def test_a_relu6_stuck_at_6_is_dead():
    z = 7 - ramp(2, 0)  # from 6 to 8, E[z] = 7
    assert not list(findings(dead_relu, chain(z)))
    assert not list(findings(dead_relu, chain(z - 0.01, activation="relu6")))
    (found,) = findings(dead_relu, chain(z, activation="relu6", bias=[1.5, 7.0]))
    assert found.severity is Severity.ERROR
    assert found.evidence["stuck"] == 2
    assert found.evidence["by_bias"] == 2
    assert found.evidence["unit"] == 0
    assert found.evidence["balanced"] == pytest.approx(-5.5)
    assert "never leave 0 or 6 (2 at 6)" in found.message
    by_mean = next(findings(dead_relu, chain(z, activation="relu6", bias=[0, -1])))
    assert by_mean.evidence["by_weights"] == 2


@pytest.mark.parametrize(
    ("residual", "severity"), [(False, Severity.ERROR), (True, Severity.WARNING)]
)
def test_a_dead_norm_cuts_as_a_dead_map_does(residual, severity):
    """fc1 -> norm -> relu -> fc2, where fc1's `feeds` name fc2 already."""
    survey = chain(ramp(4, 4), kind="norm", name="fc1", reads_input=False)
    norm, fc2 = survey.sites
    stem = Site(
        name="stem",
        kind="linear",
        out=4,
        fan_in=3,
        weight="stem.weight",
        feeds=(Feed(site="fc2"),),
        norm=None if residual else "batch-norm",
        reads_input=True,
    )
    norm = replace(norm, fed_by=("stem",))
    fc2 = replace(fc2, fed_by=("stem",), activation="relu", out=4)
    reading = one(np.full((100, 4), -0.25)).readings["fc1"]
    readings = {**survey.readings, "fc2": reading}
    survey = replace(survey, sites=(stem, norm, fc2), readings=readings)
    first, second = findings(dead_relu, survey)
    assert first.severity is severity
    assert second.cause.endswith("because fc1 is dead")
