from dataclasses import replace

import numpy as np
import pytest

from hand import rows_of
from plumbob.rule import findings
from plumbob.rules.duplicate_units import duplicate_units
from plumbob.types import Census, Severity


def judged(survey):
    return list(findings(duplicate_units, survey))


def twin(units, copies):
    found = np.arange(units)
    found[1 : 1 + copies] = 0
    return found


@pytest.mark.parametrize(
    ("copies", "fires"), [(0, False), (1, True), (4, True), (5, False)]
)
def test_up_to_half_of_the_layer(copies, fires):
    """One set of 5 of 10 units is told here, one of 6 is PB102's."""
    found = judged(rows_of(twin=twin(10, copies)))
    assert bool(found) == fires
    if found:
        assert found[0].severity is Severity.INFO
        assert found[0].units == tuple(range(1, 1 + copies))
        assert (found[0].evidence["copies"], found[0].evidence["sets"]) == (copies, 1)


def test_zero_rows_and_tables_are_no_copies():
    assert not judged(rows_of(twin=twin(4, 1), norm=np.array([0.0, 0, 1, 1])))
    assert not judged(rows_of(twin=twin(4, 1), kind="embedding"))


@pytest.mark.parametrize(
    ("dtype", "fan_in", "fires"),
    [
        # 64 units: 2^11 pairs; 2^11 2^-(7 fan_in) < 1e-3 from fan_in 3
        ("bfloat16", 2, False),
        ("bfloat16", 3, True),
        ("float32", 1, True),
        ("float8_e5m2", 10, False),
        ("float8_e5m2", 11, True),
    ],
)
def test_short_rows_coincide_by_chance(dtype, fan_in, fires):
    survey = rows_of(twin=twin(64, 1), fan_in=fan_in)
    census = Census(shape=(64, fan_in), dtype=dtype, count=64 * fan_in)
    found = judged(replace(survey, tensors={"fc1.weight": census}))
    assert bool(found) == fires


@pytest.mark.parametrize(("readers", "bound"), [(1, 0), (0, 1)])
def test_copies_that_training_never_parts(readers, bound):
    (found,) = judged(
        rows_of(twin=twin(4, 1), outgoing_twin=np.array([0, readers, 2, 3]))
    )
    assert found.evidence["bound"] == bound
    assert ("never part" in found.cause) == bool(bound)
