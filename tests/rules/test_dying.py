from dataclasses import replace

import numpy as np
import pytest

from hand import normals
from nets_history_units import dying as case
from plumbob.rule import findings
from plumbob.rules.dying import EDGES, dying
from plumbob.slopes import STEEP
from plumbob.types import Severity
from runs_of_units import course, silent

NOISE = normals(40, 8)


def sinking(end, *, units=8, windows=12, start=0.0):
    """z of eight units, the first few of which sink from start to end."""
    ways = np.where(np.arange(8) < units, end - start, 0.0)
    return [NOISE + start + share * ways for share in np.linspace(0, 1, windows)]


def found(rows, **given):
    given = {"activation": "relu", "loss": 1.0} | given
    return list(findings(dying, course(rows, **given)))


@pytest.mark.parametrize(
    ("units", "severity"),
    [(3, None), (4, Severity.INFO), (5, Severity.INFO), (6, Severity.WARNING)],
)
def test_severity_follows_the_share(units, severity):
    found_here = found(sinking(-6.0, units=units))
    assert [f.severity for f in found_here] == ([severity] if severity else [])
    if found_here:
        assert found_here[0].units == tuple(range(units))
        assert found_here[0].evidence["gone"] == units


def test_it_is_foreseen_and_when():
    """The largest z is `high` above a mean that falls 0.1 in 10 steps."""
    high = NOISE.max(0)
    rows = sinking(-1.6, windows=17)
    (finding,) = found(rows)
    assert finding.evidence["gone"] == 0
    expected = 100 * high[high <= 2.4]  # within half as many steps again
    assert finding.evidence["going"] == len(expected) >= 6
    assert finding.evidence["step"] == pytest.approx(np.median(expected), abs=1)
    assert "will be, at about step" in finding.message
    assert not found(rows[:10])


def test_what_stands_still_or_comes_back_is_left_in_peace():
    assert not found(sinking(-1.5, start=-1.5))
    assert not found(sinking(0.0, start=-1.9))
    jumps = [NOISE - 1.5 + 0.4 * (-1) ** i for i in range(12)]
    assert not found(jumps)


def test_windows_without_a_finite_value_say_nothing():
    """NaN inputs leave E[z] = 0, sd = 0 and no largest z: no unit died of that."""
    seen = course([NOISE] * 16, activation="relu", loss=1.0)
    row = list(seen.history.windows["fc1"])
    row[8:] = [replace(w, z=silent(8)) for w in row[8:]]
    history = replace(seen.history, windows={"fc1": tuple(row)})
    assert not list(findings(dying, replace(seen, history=history)))


def test_ordinary_sparsity_is_silent():
    """Units that fire on one input in forty, some of them on none of the last."""
    assert not found([NOISE - NOISE.max(0) + 0.1] * 12)
    assert not found([NOISE - 9.0] * 12)  # never alive: another rule's


@pytest.mark.parametrize(
    ("given", "severity"),
    [
        ({"loss": 0.91}, Severity.WARNING),
        ({"loss": 0.85}, None),
        ({"loss": None}, Severity.INFO),
        ({"activation": "relu6"}, Severity.WARNING),
        ({"activation": "gelu"}, Severity.WARNING),
        ({"activation": "silu"}, Severity.WARNING),
        ({"activation": "tanh"}, None),
        ({"activation": None}, None),
        ({"gates": True}, None),
        ({"norm": "batch-norm"}, None),
    ],
)
def test_where_it_is_judged(given, severity):
    found_here = found(sinking(-5.3, windows=40), **given)
    assert [f.severity for f in found_here] == ([severity] if severity else [])


def test_too_few_windows_or_samples_are_no_verdict():
    assert not found(sinking(-6.0, windows=7))
    assert not found([z[:2] for z in sinking(-6.0, windows=12)])


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_what_moved_them_is_told(share):
    bias = [np.full(8, -6 * share * part) for part in np.linspace(0, 1, 12)]
    (finding,) = found(sinking(-6.0), bias=bias)
    assert finding.evidence["by_bias"] == pytest.approx(share)
    assert finding.cause.startswith("the bias" if share > 0.5 else "w.mu")


@pytest.mark.parametrize("activation", EDGES)
def test_an_edge_is_where_the_slope_ends(activation):
    z = np.linspace(-20, 5, 25001)
    steep = np.abs(STEEP["relu" if activation == "relu6" else activation](z))
    last = z[np.flatnonzero(steep >= 0.05 * steep.max())[0]]
    assert EDGES[activation] == pytest.approx(last, abs=0.01)


def test_the_alarm_comes_before_death(monkeypatch):
    """Seen while most units still fire, and at about the step at which they stop."""
    monkeypatch.setattr("plumbob.watching.schedule.SHARE", np.inf)  # whatever it costs
    seen = []
    watch = case(
        leans=True, select="PB708", severity="info",
        on_finding=lambda step, finding: seen.append((step, finding)),
    )  # fmt: skip
    step, finding = seen[0]
    assert finding.evidence["going"] > finding.evidence["gone"]
    rows = watch.judged.history.windows["fc"]
    dead = {w.last: float((w.z.high <= 0).mean()) for w in rows}
    then = next(share for last, share in dead.items() if last >= step)
    assert then < 0.5
    assert dead[max(dead)] > 0.75
    assert step < finding.evidence["step"] < 2 * step
    assert finding.remedy.act == "set-learning-rate"
