import numpy as np
import pytest

from plumbob.rule import findings
from plumbob.rules.proved_dead_unit import proved_dead_unit
from plumbob.types import Needs, Reading, Site, Survey


def found(ceiling, **changes):
    facts = {"name": "fc", "kind": "linear", "out": 3, "fan_in": 2, "weight": "w"}
    site = Site(**facts | {"activation": "relu"} | changes)
    reading = Reading(ceiling=None if ceiling is None else np.array(ceiling))
    known = Needs.GRAPH | Needs.WEIGHTS
    survey = Survey(sites=(site,), known=known, readings={"fc": reading})
    return list(findings(proved_dead_unit, survey))


def test_at_most_zero_is_dead():
    (finding,) = found([1e-9, 0.0, -2.0])
    assert finding.units == (1, 2)
    assert finding.evidence == {"dead": 2, "units": 3, "unit": 2, "highest": -2.0}


@pytest.mark.parametrize("changes", [{"activation": "gelu"}, {"norm": "batch-norm"}])
def test_what_is_never_quite_dead(changes):
    assert not found([-1.0, -1.0, -1.0], **changes)


def test_nothing_known():
    assert not found(None)
    assert not found([np.inf, 1.0, 1.0])
