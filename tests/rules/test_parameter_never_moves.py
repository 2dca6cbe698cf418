import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from netting import mlp, seeded
from past_by_hand import said, severities, survey
from plumbob.rules.parameter_never_moves import parameter_never_moves
from watched import codes, run

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


@pytest.mark.parametrize(("left", "fires"), [(2e-3, True), (0.5e-3, False)])
def test_what_has_come_to_rest_may_stand(left, fires):
    moved = np.arange(20) < 10
    facts = {"gradient": np.where(moved, 1.0, left), "change": np.where(moved, 0.1, 0)}
    case = survey({"a.weight": facts}, loss=0.6, constant=1.0, floor=0.0)
    assert severities(parameter_never_moves, case) == ["ERROR"] * fires


def test_all_data_at_once_come_to_rest_at_the_lowest_point():
    x = torch.randn(50, 3, generator=seeded())
    y = x.sum(1, keepdim=True) + 2 * torch.randn(50, 1, generator=seeded(1))
    model = mlp(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    watch = run(model, optimizer, mse_loss, [(x, y)] * 200, every=10, graph=False)
    assert not watch.judged.history.courses["0.weight"].change[-4:].any()
    assert "PB715" not in codes(watch)
