from dataclasses import replace

import numpy as np
import pytest
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from hand import normals
from nets_history_units import clusters, deep
from plumbob.rule import findings
from plumbob.rules.bias_runaway import bias_runaway
from plumbob.types import Severity
from runs_of_units import course, silent
from watched import codes, run

NOISE = normals(40, 4)
CLOSE = {"every": 25, "asked": True}


def drift(end, *, sd=0.1, start=0.0, windows=9, units=4):
    """z of four units, the first few of which go from start to end."""
    ways = np.where(np.arange(4) < units, end - start, 0.0)
    shares = np.minimum(np.linspace(0, 4, windows), 1)  # it comes in a quarter
    return [sd * NOISE + start + share * ways for share in shares]


def found(rows, **given):
    return list(findings(bias_runaway, course(rows, **{"loss": 1.0} | given)))


@pytest.mark.parametrize(
    ("end", "severity"),
    [
        (-0.95, None),  # 1 - tanh(z / 2)^2 is 0.8 at 0.9624
        (-0.97, Severity.INFO),
        (0.97, Severity.INFO),
        (-1.75, Severity.INFO),  # and 0.5 at 1.7627
        (-1.78, Severity.WARNING),
    ],
)
def test_severity_follows_the_slope_that_is_left(end, severity):
    found_here = found(drift(end))
    assert [f.severity for f in found_here] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("windows", "expected"), [(7, Severity.INFO), (8, Severity.WARNING)]
)
def test_a_warning_waits_twice_as_long_as_the_drift_took(windows, expected):
    """It is there at step 20, the third of the windows: 3 * 21 steps make it one."""
    steps = [0.1 * NOISE - end for end in (0, 0, 2, 2, 2, 2, 2, 2)]
    (finding,) = found(steps[:windows])
    assert finding.severity is expected
    assert finding.evidence["steps"] == 10 * windows - 9


@pytest.mark.parametrize(
    ("sd", "expected"), [(0.13, Severity.WARNING), (0.14, Severity.INFO)]
)
def test_an_answer_that_overtakes_the_drift_is_no_warning(sd, expected):
    """|beta| / sd is 20 at first, and 15.4 or 14.3 in the end."""
    rows = [0.1 * NOISE - end for end in (0, 2, 2, 2)] + [sd * NOISE - 2] * 5
    (finding,) = found(rows)
    assert finding.severity is expected


def test_windows_without_a_finite_value_say_nothing():
    seen = course(drift(-2.0), loss=1.0)
    row = list(seen.history.windows["fc1"])
    row += [replace(row[-1], z=silent(4))] * 3
    history = replace(seen.history, windows={"fc1": tuple(row)})
    (finding,) = findings(bias_runaway, replace(seen, history=history))
    assert finding.evidence["beta"] == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(("sd", "fires"), [(0.65, True), (0.68, False)])
def test_a_drift_is_judged_by_what_the_input_does(sd, fires):
    assert bool(found(drift(-2.0, sd=sd))) is fires  # 3 sd are 1.95 and 2.04


@pytest.mark.parametrize(("units", "fires"), [(1, False), (2, True)])
def test_one_unit_is_no_layer(units, fires):
    rows = [z - np.array([0, 0, 3, 3]) for z in drift(-3.0, units=units)]
    assert bool(found(rows)) is fires


@pytest.mark.parametrize(
    ("given", "severity"),
    [
        ({"loss": 0.91}, Severity.WARNING),
        ({"loss": 0.85}, None),
        ({"loss": 0.85, "constant": 0.9}, Severity.WARNING),
        ({"loss": None}, Severity.INFO),
        ({"activation": "tanh"}, Severity.WARNING),
        ({"activation": "relu"}, None),
        ({"activation": None}, None),
        ({"is_output": True}, None),
        ({"gates": True}, None),
        ({"kind": "recurrent"}, None),
        ({"norm": "batch-norm"}, None),
    ],
)
def test_where_it_is_judged(given, severity):
    found_here = found(drift(-2.0), **given)
    assert [f.severity for f in found_here] == ([severity] if severity else [])


def test_coming_back_is_no_drift():
    assert not found(drift(0.0, start=-3.0))
    assert not found(drift(2.5, start=-2.5))


def test_too_few_samples_or_windows_are_no_verdict():
    assert not found(drift(-3.0, windows=2))
    assert not found([z[:9] for z in drift(-3.0, windows=3)])


@pytest.mark.parametrize(
    ("share", "cause"),
    [(0.9, "the bias: 90% of the drift"), (0.2, "w.mu: what the layer reads")],
)
def test_what_moved_it_is_told(share, cause):
    bias = [np.full(4, share * -2.0 * part) for part in np.linspace(0, 4, 9).clip(0, 1)]
    (finding,) = found(drift(-2.0), bias=bias)
    assert finding.cause.startswith(cause)
    assert finding.evidence["by_bias"] == pytest.approx(share, rel=1e-3)
    assert finding.evidence["beta"] == pytest.approx(2.0, rel=1e-3)
    assert ("lower learning rate" in finding.remedy.advice) is (share > 0.5)


@pytest.mark.parametrize("bias", [True, False])
def test_the_top_layer_of_a_deep_sigmoid_net_drifts_without_any_bias(bias):
    model = deep(nn.Sigmoid, inputs=8, classes=4, width=32, bias=bias)
    seen = run(
        model, SGD(model.parameters(), 0.8), cross_entropy, clusters(150), **CLOSE
    )
    (finding,) = findings(bias_runaway, seen.judged)
    assert finding.site == "6"
    assert finding.severity is Severity.WARNING
    assert finding.evidence["drifting"] > 28
    assert finding.cause.startswith("w.mu: ")


def test_its_tanh_twin_learns_and_is_silent():
    model = deep(nn.Tanh, inputs=8, classes=4, width=32)
    seen = run(
        model, SGD(model.parameters(), 0.1), cross_entropy, clusters(150), **CLOSE
    )
    assert "PB706" not in codes(seen)
