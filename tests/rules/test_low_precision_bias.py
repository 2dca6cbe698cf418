from dataclasses import replace

import numpy as np
import pytest
import torch

from hand import normals, one
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.low_precision_bias import low_precision_bias
from plumbob.survey.measure import measure
from plumbob.types import Severity


def layer(offset, dtype="bfloat16", *, units=4, shifted=None, **site):
    z = normals(200, units)
    z[:, : units if shifted is None else shifted] += offset
    survey = one(z, bias=[offset] * units, **site)
    reading = replace(survey.readings["fc1"], dtype=dtype)
    return list(
        findings(low_precision_bias, replace(survey, readings={"fc1": reading}))
    )


@pytest.mark.parametrize(
    ("dtype", "offset", "fires"),
    [
        ("bfloat16", 31, False),  # gap 2^(4 - 7) = 0.125, over sqrt(12) 0.036
        ("bfloat16", 33, True),  # 0.25: 0.072
        ("float16", 255, False),
        ("float16", 257, True),  # 2^(8 - 10) = 0.25
        ("float32", 1e4, False),
        (None, 1e4, False),
    ],
)
def test_digits_against_the_spread(dtype, offset, fires):
    assert bool(layer(offset, dtype)) is fires


def test_the_error_is_that_of_uniform_rounding():
    (told,) = layer(100)
    assert told.evidence["gap"] == pytest.approx(0.5)
    assert told.evidence["error"] == pytest.approx(0.5 / np.sqrt(12))
    z = torch.randn(10**5, generator=seeded(), dtype=torch.float64) + 100
    error = (z.bfloat16().double() - z).std()
    assert float(error) == pytest.approx(told.evidence["error"], rel=0.01)


@pytest.mark.parametrize(
    ("offset", "severity"), [(127, Severity.INFO), (257, Severity.WARNING)]
)
def test_a_warning_where_few_values_are_left(offset, severity):
    """2 sd hold 4 values at a gap of 0.5 and 1 at 2."""
    assert [f.severity for f in layer(offset)] == [severity]


@pytest.mark.parametrize(("shifted", "fires"), [(2, False), (3, True)])
def test_half_of_the_units(shifted, fires):
    assert bool(layer(100, shifted=shifted)) is fires


@pytest.mark.parametrize("site", [{"is_output": True}, {"kind": "norm"}])
def test_what_is_not_judged(site):
    assert not layer(1000, **site)


def test_a_spread_that_rounding_swallowed_whole():
    """At 1e5 bfloat16 has steps of 512: z is one number."""
    model = mlp(8, 16, 2)
    model[0].bias.data += 1e5
    x = torch.randn(64, 8, generator=seeded()).bfloat16()
    survey = measure(model.bfloat16(), x)
    assert not survey.readings["0"].z.sd.any()
    assert "0" in [f.site for f in findings(low_precision_bias, survey)]


def test_autocast_counts():
    model = mlp(8, 16, 2)
    model[0].bias.data += 300
    x = torch.randn(64, 8, generator=seeded())
    assert not list(findings(low_precision_bias, measure(model, x)))
    with torch.autocast("cpu", torch.bfloat16):
        survey = measure(model, x)
    assert survey.readings["0"].dtype == "bfloat16"
    assert [f.site for f in findings(low_precision_bias, survey)] == ["0"]
