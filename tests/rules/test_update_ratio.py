import numpy as np
import pytest

from past_by_hand import severities, survey
from plumbob.rules.update_ratio import update_ratio

# 100 numbers with a fan-in of 10: random weights have a norm of sqrt(10)
NATURAL = 10**0.5
LOST = {"constant": 1.0, "floor": 0.0, "loss": 1.0}
LEARNT = LOST | {"loss": 0.01}


def two(facts):
    return {"a.weight": facts, "b.weight": facts}


def thrown(ratio, **given):
    """One step among quiet ones, that is so many times as long as the weights."""
    change = np.full(20, 0.01)
    change[7] = 10 * ratio
    facts = {"size": 10.0, "change": change}
    return survey({f"{n}.weight": facts for n in "abc"}, **given)


@pytest.mark.parametrize(("ratio", "expected"), [(0.99, []), (1.01, ["WARNING"])])
def test_a_single_step_as_long_as_the_weights(ratio, expected):
    assert severities(update_ratio, thrown(ratio, **LOST)) == expected


def test_a_training_that_learns_all_the_same_or_whose_loss_is_not_known_is_told():
    assert severities(update_ratio, thrown(3.0, **LEARNT)) == ["INFO"]
    assert severities(update_ratio, thrown(3.0)) == ["INFO"]


@pytest.mark.parametrize(("ratio", "expected"), [(0.19, []), (0.21, ["WARNING"])])
def test_the_first_steps_together(ratio, expected):
    change = np.where(np.arange(20) < 5, 10 * ratio, 0.01)
    case = survey(two({"size": 10.0, "change": change}), **LOST)
    assert severities(update_ratio, case) == expected


@pytest.mark.parametrize(
    ("logs", "loss", "over", "expected"),
    [
        (99, 1.0, False, "INFO"),  # the loss has had no time yet
        (100, 1.0, False, "WARNING"),
        (100, 0.79, False, "INFO"),  # it learns from where it was put
        (100, 0.81, False, "WARNING"),
        (19, 1.0, True, "INFO"),
        (20, 0.11, True, "WARNING"),
        (20, 0.09, True, "INFO"),
    ],
)
def test_a_long_start_waits_for_what_comes_of_it(logs, loss, over, expected):
    facts = {"size": 10.0, "change": np.where(np.arange(logs) < 5, 3.0, 0.01)}
    case = survey(two(facts), logs=logs, over=over, **LOST | {"loss": loss})
    assert severities(update_ratio, case) == [expected]


@pytest.mark.parametrize(
    ("logs", "over", "expected"),
    [(99, False, "INFO"), (100, False, "WARNING"), (19, True, "INFO")],
)
def test_a_single_long_step_waits_too(logs, over, expected):
    change = np.where(np.arange(logs) == 7, 30.0, 0.01)
    case = survey(two({"size": 10.0, "change": change}), logs=logs, over=over, **LOST)
    assert severities(update_ratio, case) == [expected]


def test_the_first_weights_of_a_single_map_mean_nothing():
    facts = {"size": 10.0, "change": 30.0}
    assert severities(update_ratio, survey({"a.weight": facts}, **LOST)) == []
    assert severities(update_ratio, survey(two(facts), **LOST)) == ["WARNING"]


def test_a_step_of_lbfgs_is_many():
    case = survey(two({"size": 10.0, "change": 30.0}), optimizer="LBFGS", **LOST)
    assert severities(update_ratio, case) == []


def test_one_map_of_three_is_no_median():
    facts = {
        n: {"size": 10.0, "change": c}
        for n, c in zip("abc", (50, 0.1, 0.1), strict=True)
    }
    case = survey({f"{n}.weight": f for n, f in facts.items()}, **LOST)
    assert severities(update_ratio, case) == []


@pytest.mark.parametrize("size", [0.0, 1e-3])
def test_weights_that_began_small_may_grow(size):
    """Steps of the learning rate from next to nothing: 1, 1/2, 1/3 ... of |w|."""
    grown = size + 0.1 * np.arange(20)
    case = survey(two({"size": grown, "change": 0.1}), **LOST)
    assert severities(update_ratio, case) == []
    long = survey(two({"size": grown, "change": 1.01 * NATURAL}), **LOST)
    assert severities(update_ratio, long) == ["WARNING"]


@pytest.mark.parametrize(("ratio", "expected"), [(2e-6, []), (5e-7, ["WARNING"])])
@pytest.mark.parametrize("every", [1, 50])
def test_steps_next_to_nothing(ratio, every, expected):
    facts = {"a.weight": {"size": 10.0, "change": 10 * ratio}}
    case = survey(facts, logs=120, every=every, **LOST)
    assert severities(update_ratio, case) == expected
    assert severities(update_ratio, survey(facts, logs=99, **LOST)) == []
    assert severities(update_ratio, survey(facts, logs=120, **LEARNT)) == []


@pytest.mark.parametrize(("first", "expected"), [(2e-6, []), (5e-7, ["WARNING"])])
def test_steps_that_have_come_to_rest_are_not_too_short(first, expected):
    change = np.where(np.arange(120) < 5, 10 * first, 1e-9)
    case = survey({"a.weight": {"size": 10.0, "change": change}}, logs=120, **LOST)
    assert severities(update_ratio, case) == expected


def test_weights_that_are_0_for_long_have_no_ratio():
    size = np.where(np.arange(120) < 9, 0.0, 1.0)
    case = survey({"a.weight": {"size": size, "change": 1e-9}}, logs=120, **LOST)
    assert severities(update_ratio, case) == []


def test_steps_of_nothing_at_all_are_another_matter():
    case = survey({"a.weight": {"change": 0.0}}, logs=200, **LOST)
    assert severities(update_ratio, case) == []


def test_biases_and_unknown_maps_say_nothing():
    assert severities(update_ratio, survey({"a.bias": {"change": 1e3}}, **LOST)) == []
    case = survey({"a.weight": {"change": 1e3}}, sites=False, **LOST)
    assert severities(update_ratio, case) == []
