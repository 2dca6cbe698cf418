import numpy as np
import pytest

from past_by_hand import said, severities, survey
from plumbob.rules.step_too_short import step_too_short

LOST = {"constant": 1.0, "floor": 0.0, "loss": 1.0}


def short(path, *, logs=60, promise=1e-3, every=1, facts=None, **given):
    """One weight whose steps together are `path` times as long as it is."""
    change = 10 * path / (logs * every)
    weight = {"change": change, "slope": -promise} | (facts or {})
    given = LOST | {"taken": logs * every} | given
    return survey({"a.weight": weight}, logs=logs, every=every, **given)


@pytest.mark.parametrize("every", [1, 50])
@pytest.mark.parametrize(("path", "expected"), [(0.09, ["WARNING"]), (0.11, [])])
def test_the_path_of_the_weights(path, every, expected):
    case = short(path, every=every, promise=1e-5)
    assert severities(step_too_short, case) == expected


def test_the_weight_that_went_farthest_counts():
    facts = {"slope": -5e-4}
    case = survey(
        {"a.weight": facts | {"change": 1e-4}, "b.weight": facts | {"change": 1.0}},
        **LOST,
        logs=60,
    )
    assert severities(step_too_short, case) == []


@pytest.mark.parametrize(("times", "expected"), [(9.0, "WARNING"), (11.0, "INFO")])
def test_weights_far_too_large_are_the_cause(times, expected):
    """Ten times as large, and the same steps would have been a path of 0.1."""
    size = 10**0.5 * times
    facts = {"size": size, "change": 0.01 * size / 60}
    case = short(0.01, facts=facts, promise=1e-4)
    ((severity, _),) = said(step_too_short, case)
    assert severity == expected


@pytest.mark.parametrize(("promise", "fires"), [(0.9 / 60, True), (1.1 / 60, False)])
def test_what_is_left_must_be_more_than_as_many_steps_again(promise, fires):
    assert bool(severities(step_too_short, short(0.01, promise=promise))) is fires


@pytest.mark.parametrize("promise", [0.0, -1e-3, np.nan, np.inf])
def test_without_a_promise_a_longer_step_is_none(promise):
    assert severities(step_too_short, short(0.01, promise=promise)) == []


@pytest.mark.parametrize(("loss", "fires"), [(0.79, False), (0.81, True)])
def test_what_learns_is_not_told(loss, fires):
    assert bool(severities(step_too_short, short(0.01, loss=loss))) is fires
    assert severities(step_too_short, survey({"a.weight": {"change": 1e-9}})) == []


def test_a_run_that_goes_on_is_waited_for():
    assert severities(step_too_short, short(0.01, logs=199, over=False)) == []
    found = severities(step_too_short, short(0.01, logs=200, over=False))
    assert found == ["WARNING"]
    assert severities(step_too_short, short(0.01, logs=19, promise=1e-4)) == []


def test_a_warm_up_in_its_beginning_is_waited_for():
    rising = {"lr": np.linspace(1e-6, 1e-3, 300)}
    case = short(0.01, logs=300, over=False, facts=rising)
    assert severities(step_too_short, case) == []
    over = short(0.01, logs=300, over=True, facts=rising)
    assert severities(step_too_short, over) == ["WARNING"]


def test_a_learning_rate_of_zero():
    assert severities(step_too_short, survey({"a.weight": {"lr": 0.0}})) == ["ERROR"]
    assert severities(step_too_short, survey({"a.weight": {"lr": 0.0}}, logs=4)) == []
    frozen = {"a.weight": {"lr": 0.0}, "b.weight": {}}
    assert severities(step_too_short, survey(frozen)) == []
    late = {"lr": np.r_[0.0, np.linspace(1e-4, 1e-2, 19)]}
    assert severities(step_too_short, survey({"a.weight": late}, over=False)) == []


@pytest.mark.parametrize(("loss", "expected"), [(1.0, ["WARNING"]), (0.1, [])])
def test_a_schedule_that_has_ended_early(loss, expected):
    gone = {"lr": 0.1 * 0.1 ** np.arange(20.0)}
    case = survey({"a.weight": gone}, **LOST | {"loss": loss})
    assert severities(step_too_short, case) == expected


def test_a_schedule_that_ends_with_the_run():
    cosine = {"lr": 1 + np.cos(np.linspace(0, np.pi, 100))}
    assert severities(step_too_short, survey({"a.weight": cosine}, logs=100)) == []


@pytest.mark.parametrize(
    ("eps", "share", "expected"),
    [
        (1.0, 0.95, ["WARNING"]),
        (1.0, 0.85, []),
        (1e-8, 0.95, ["INFO"]),
    ],
)
def test_epsilon_swallows_the_step(eps, share, expected):
    facts = {"a.weight": {"swallowed": share, "change": 1.0}}
    case = survey(facts, optimizer="Adam", group={"eps": eps}, **LOST)
    assert severities(step_too_short, case) == expected


def test_a_model_that_is_tuned_may_have_learnt_before():
    ((severity, message),) = said(step_too_short, short(0.01, constant=None))
    assert severity == "INFO"
    assert "0% of the way from its start" in message


@pytest.mark.parametrize(
    ("eps", "loss", "promise", "expected"),
    [
        (1.0, 0.51, 0.5 / 60, ["WARNING"]),
        (1.0, 0.49, 0.4 / 60, []),
        (1.0, 0.51, 0.52 / 60, []),
        (1e-8, 0.51, 0.5 / 60, []),
    ],
)
def test_epsilon_swallows_steps_that_get_somewhere(eps, loss, promise, expected):
    facts = {"a.weight": {"swallowed": 1.0, "change": 1.0, "slope": -promise}}
    lost = LOST | {"loss": loss}
    adam = {"logs": 60, "optimizer": "Adam", "group": {"eps": eps}}
    assert severities(step_too_short, survey(facts, **adam, **lost)) == expected
    falls = {"floor": 0.0, "loss": np.linspace(1, loss, 60)}
    assert severities(step_too_short, survey(facts, **adam, **falls)) == []


def test_numbers_are_told():
    ((_, message),) = said(step_too_short, short(0.01, promise=1e-4))
    assert message.startswith("60 steps together are 0.01 times as long")
