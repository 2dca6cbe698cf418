import numpy as np
import pytest

from past_by_hand import severities, survey
from plumbob.rules.clipped_every_step import clipped_every_step

LOST = {"constant": 1.0, "floor": 0.0, "loss": 1.0}


def clipped(norm=0.5, *, spread=0.0, logs=20, **given):
    """Two parameters whose joint norm is given; `spread` is told by the last log."""
    total = np.full(logs, norm)
    total[-1] *= 1 + spread
    parts = {"a.weight": 0.6 * total, "b.weight": 0.8 * total}
    return survey({n: {"gradient": g} for n, g in parts.items()}, logs=logs, **given)


def test_the_same_norm_at_every_step():
    assert severities(clipped_every_step, clipped()) == ["INFO"]


@pytest.mark.parametrize(("spread", "fires"), [(0.9e-3, True), (1.2e-3, False)])
def test_rounding_may_differ(spread, fires):
    assert bool(severities(clipped_every_step, clipped(spread=spread))) is fires


@pytest.mark.parametrize(("logs", "fires"), [(9, False), (10, True)])
def test_ten_norms(logs, fires):
    assert bool(severities(clipped_every_step, clipped(logs=logs))) is fires


@pytest.mark.parametrize(
    ("norm", "fires"),
    [(2.5, True), (0.25, True), (2.537, False), (2.5002, True), (2.5003, False)],
)
def test_a_limit_is_written_with_few_digits(norm, fires):
    assert bool(severities(clipped_every_step, clipped(norm))) is fires


@pytest.mark.parametrize(
    ("optimizer", "logs", "expected"),
    [("SGD", 200, "WARNING"), ("SGD", 199, "INFO"), ("Adam", 200, "INFO")],
)
def test_a_warning_where_nothing_is_learnt_by_steps_in_proportion(
    optimizer, logs, expected
):
    case = clipped(logs=logs, optimizer=optimizer, **LOST)
    assert severities(clipped_every_step, case) == [expected]


def test_steps_that_clipping_spoilt():
    norm = np.full(20, 0.5)
    norm[3] = np.inf
    case = survey({"a.weight": {"gradient": norm}})
    assert severities(clipped_every_step, case) == ["WARNING"]
    goal = {"constant": 1.0, "floor": 0.0, "optimizer": "Adam"}
    for loss, expected in ((0.91, "WARNING"), (0.89, "INFO")):
        case = survey({"a.weight": {"gradient": norm}}, loss=loss, **goal)
        assert severities(clipped_every_step, case) == [expected]


def test_no_gradients():
    for gradient in (0.0, np.nan, np.inf):
        case = survey({"a.weight": {"gradient": gradient}})
        assert severities(clipped_every_step, case) == []
