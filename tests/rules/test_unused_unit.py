import numpy as np
import pytest

from hand import rows_of
from plumbob.rule import findings
from plumbob.rules.unused_unit import unused_unit
from plumbob.types import Severity, Stage


def judged(survey):
    return list(findings(unused_unit, survey))


def ones(units, zeros):
    return np.r_[np.zeros(zeros), np.ones(units - zeros)]


@pytest.mark.parametrize("side", ["norm", "outgoing"])
@pytest.mark.parametrize(
    ("zeros", "severity"),
    [
        (0, None),
        (1, Severity.INFO),
        (18, Severity.INFO),
        (19, Severity.WARNING),
        (20, None),  # the layer starts at zero: a last layer, a residual end
    ],
)
def test_severity_follows_the_share(side, zeros, severity):
    found = judged(rows_of(twin=np.arange(20), **{side: ones(20, zeros)}))
    assert [f.severity for f in found] == ([] if severity is None else [severity])
    if found:
        counted = {"norm": "constant", "outgoing": "unread"}[side]
        assert found[0].evidence[counted] == zeros
        assert found[0].units == tuple(range(zeros))


@pytest.mark.parametrize(
    "site",
    [
        {"is_output": True},
        {"stage": Stage.INIT},
        {"kind": "embedding"},
        {"kind": "norm"},
    ],
)
def test_where_zero_is_no_fault(site):
    assert not judged(rows_of(twin=np.arange(4), norm=ones(4, 1), **site))


def test_both_sides_are_counted_once():
    survey = rows_of(twin=np.arange(4), norm=ones(4, 2), outgoing=ones(4, 1))
    (found,) = judged(survey)
    assert found.evidence["unused"] == 2
    assert "1 is read by zero weights only, 2 have a zero row" in found.cause
