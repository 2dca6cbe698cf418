import numpy as np
import pytest

from past_by_hand import said, severities, survey
from plumbob.rules.parameter_never_moves import parameter_never_moves

MOVES = {"change": 0.01}
STILL = {"change": 0.0}
UNHELD = {"lr": np.nan, "gradient": np.nan, "change": np.nan, "pull": np.nan}
BARE = {"gradient": np.nan, "pull": np.nan, "change": 0.0}


def test_an_optimiser_of_something_else():
    case = survey({"a.weight": UNHELD, "a.bias": UNHELD}, unheld=("a.weight", "a.bias"))
    assert severities(parameter_never_moves, case) == ["ERROR"]


def test_an_optimiser_that_lacks_some():
    case = survey({"a.weight": UNHELD, "b.weight": MOVES}, unheld=("a.weight",))
    ((severity, message),) = said(parameter_never_moves, case)
    assert severity == "WARNING"
    assert (
        "1 of 2 parameters with a gradient (100 numbers) is in no optimiser" in message
    )


def test_what_another_one_moves_is_not_lost():
    moved = UNHELD | {"size": np.linspace(1, 2, 20)}
    case = survey({"a.weight": moved, "b.weight": MOVES}, unheld=("a.weight",))
    assert severities(parameter_never_moves, case) == []


def test_frozen_parameters_in_no_optimiser_are_meant():
    case = survey({"a.weight": UNHELD, "b.weight": MOVES})
    assert severities(parameter_never_moves, case) == []


def test_held_and_without_a_gradient():
    every = survey({"a.weight": BARE, "a.bias": BARE})
    assert severities(parameter_never_moves, every) == ["ERROR"]
    some = survey({"a.weight": BARE, "b.weight": MOVES})
    assert severities(parameter_never_moves, some) == ["INFO"]


@pytest.mark.parametrize(("logs", "fires"), [(3, False), (4, True)])
def test_not_one_bit(logs, fires):
    case = survey({"a.weight": STILL, "b.weight": STILL}, logs=logs)
    assert severities(parameter_never_moves, case) == ["ERROR"] * fires


def test_most_values_or_few():
    case = survey({"a.weight": STILL | {"numel": 300}, "b.weight": MOVES})
    assert severities(parameter_never_moves, case) == ["WARNING"]
    case = survey({"a.weight": STILL | {"numel": 10}, "b.weight": MOVES})
    assert severities(parameter_never_moves, case) == ["INFO"]


@pytest.mark.parametrize("still", [3, 4])
def test_that_no_longer_move(still):
    change = np.full(20, 0.01)
    change[-still:] = 0
    case = survey({"a.weight": {"change": change}})
    assert bool(severities(parameter_never_moves, case)) is (still == 4)


@pytest.mark.parametrize(
    "excuse",
    [
        {"gradient": 0.0},
        {"pull": 0.0},
        {"lr": 0.0},
        {"gradient": np.inf},
        {
            "lr": np.where(np.arange(20) < 10, 1.0, 1e-3),
            "change": [1.0] * 10 + [0.0] * 10,
        },
    ],
    ids=["no gradient", "not sampled", "no rate", "broken", "end of the schedule"],
)
def test_there_may_be_a_reason_to_stand(excuse):
    assert severities(parameter_never_moves, survey({"a.weight": STILL | excuse})) == []


def test_what_has_learnt_may_stand():
    goal = {"constant": 1.0, "floor": 0.0}
    done = survey({"a.weight": STILL}, loss=0.05, **goal)
    assert severities(parameter_never_moves, done) == []
    assert severities(
        parameter_never_moves, survey({"a.weight": STILL}, loss=0.2, **goal)
    ) == ["ERROR"]
