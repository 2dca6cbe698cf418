from dataclasses import replace

import numpy as np
import pytest

from hand import moments, normals
from past_by_hand import survey
from plumbob.rule import findings
from plumbob.rules.shrinking_weights import shrinking_weights
from plumbob.types import Window


def shrinking(left, *, lr=0.1, decay=0.5, pull=0.0, logs=40, spread=None, **given):
    """Plain SGD on |w| alone, exactly: dw = -lr (g + decay w), g along w."""
    size, facts = 10.0, {"size": [], "change": [], "along": [], "pull": []}
    for _ in range(logs):
        step = lr * (pull + decay) * size
        facts["size"].append(size)
        facts["change"].append(abs(step))
        facts["along"].append(-step * size)
        facts["pull"].append(pull * size**2)
        size -= step
    facts["gradient"] = np.abs(pull) * np.array(facts["size"]) + 1e-12
    windows = {}
    if spread is not None:
        z = normals(50, 10)
        rows = (Window(first=0, last=0, z=moments(z)),)
        rows += (Window(first=1, last=1, z=moments(spread * z)),)
        windows = {"a": rows}
    return survey(
        {"a.weight": facts | {"lr": lr, "decay": decay}},
        logs=logs,
        windows=windows,
        **given,
    )


def found(case):
    return list(findings(shrinking_weights, case))


@pytest.mark.parametrize(("keeps", "fires"), [(0.49, True), (0.51, False)])
def test_half_of_what_they_were(keeps, fires):
    rate = 1 - keeps ** (1 / 39)
    assert bool(found(shrinking(keeps, lr=1.0, decay=rate))) is fires


def test_decay_is_the_cause_and_the_split_is_exact():
    (one,) = found(shrinking(0.1, pull=0.25))
    rate = 0.1
    assert one.evidence["decay"] == pytest.approx(-2 * rate * 0.5)
    assert one.evidence["gradient"] == pytest.approx(-2 * rate * 0.25)
    assert one.evidence["square"] == pytest.approx((rate * 0.75) ** 2)
    whole = sum(one.evidence[n] for n in ("decay", "gradient", "square"))
    assert whole == pytest.approx((1 - rate * 0.75) ** 2 - 1)
    assert one.cause.startswith("weight decay")
    assert one.site == "a"


def test_a_penalty_in_the_loss_is_the_cause():
    (one,) = found(shrinking(0.1, decay=0.0, pull=0.6))
    assert one.evidence["penalty"] == pytest.approx(0.6)
    assert one.evidence["decay"] == 0
    assert "a penalty within the loss" in one.cause


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_never_the_learning_rate(optimizer):
    (one,) = found(shrinking(0.1, pull=0.25, lr=1.0, optimizer=optimizer))
    assert "learning rate" not in one.message + one.cause + one.remedy.advice


@pytest.mark.parametrize(("spread", "expected"), [(0.009, "WARNING"), (0.011, "INFO")])
def test_a_warning_where_the_output_is_a_constant(spread, expected):
    (one,) = found(shrinking(0.1, pull=0.25, spread=spread))
    assert one.severity.name == expected
    assert one.evidence["spread"] == pytest.approx(spread)


@pytest.mark.parametrize(("loss", "expected"), [(0.51, "WARNING"), (0.49, "INFO")])
def test_small_outputs_that_the_targets_ask_for_are_no_fault(loss, expected):
    case = shrinking(0.1, pull=0.25, spread=0.005, loss=loss, constant=1.0, floor=0.0)
    (one,) = found(case)
    assert one.severity.name == expected
    assert one.evidence["learnt"] == pytest.approx(1 - loss)


def test_outputs_that_were_not_measured_are_not_guessed():
    """Of ten maps a product would be 0.02^10, whatever lies between them."""
    case = shrinking(0.1, pull=0.25)
    course = case.history.courses["a.weight"]
    courses = {f"{n}.weight": course for n in "abcdefghij"}
    history = replace(case.history, courses=courses, scales=np.ones(40))
    sites = tuple(
        replace(case.sites[0], name=n, weight=f"{n}.weight") for n in "abcdefghij"
    )
    (one,) = found(replace(case, history=history, sites=sites))
    assert one.severity.name == "INFO"
    assert "spread" not in one.evidence


def test_before_a_norm_their_size_does_not_count():
    case = shrinking(0.1, spread=0.001)
    case.history.courses["a.weight"].gradient[:] = 1.0  # at right angles: w.g = 0
    (one,) = found(case)
    assert one.severity.name == "INFO"
    assert "does not depend on their size" in one.cause


def test_momentum_makes_the_decay_so_much_more():
    case = shrinking(0.1, lr=0.01, decay=0.5, group={"momentum": 0.9})
    assert found(case) == []  # a hundredth a step: most is left
    (one,) = found(shrinking(0.1, lr=0.05, group={"momentum": 0.9}))
    assert one.evidence["decay"] == pytest.approx(-2 * 0.05 * 0.5 / 0.1)


def held(
    *, push=0.1, loss=0.8, strength=0.3, late=0.0, slant=0.9, inside=True, other=1
):
    """Two maps at rest at 3 of 10: what holds them down is as strong as the data push.

    `push` is that on both, beside what there is to learn, and `late` what is left of
    the penalty's pull, by its strength.
    """
    size = np.where(np.arange(40) < 10, 10.0, 3.0)
    pulls = (late if inside else late - 1) * strength * size**2
    if inside:
        pulls[:10] = strength * size[:10] ** 2
    facts = {"size": size, "along": 0.0, "lr": 0.1}
    facts |= {"decay": 0.0 if inside else strength}
    to_learn = 2 * strength * 9 / push
    inner = strength * 9 if inside else 0.0  # half of the strength times both squares
    return survey(
        {
            f"{n}.weight": facts
            | {"pull": share * pulls, "gradient": np.abs(share * pulls) / size / slant}
            for n, share in (("a", 1.0), ("b", other))
        },
        logs=40,
        loss=loss * to_learn + inner,
        constant=to_learn,
        floor=0.0,
    )


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "WARNING"),
        ({"push": 0.051}, "WARNING"),
        ({"push": 0.049}, "INFO"),
        ({"loss": 0.51}, "WARNING"),
        ({"loss": 0.49}, "INFO"),
    ],
)
def test_a_penalty_that_decides(inside, given, expected):
    (one,) = found(held(inside=inside, **given))
    assert one.severity.name == expected
    assert one.evidence["push"] == pytest.approx(given.get("push", 0.1))
    assert one.evidence["learnt"] == pytest.approx(1 - given.get("loss", 0.8))
    assert one.evidence["strength"] == pytest.approx(0.3)
    assert (one.site is None) is (expected == "WARNING")


@pytest.mark.parametrize(
    "given",
    [
        {"late": 0.51},  # they still shrink
        {"slant": 0.49},  # no more than the data's own gradient
        {"other": 0.6},  # and not of one strength
    ],
)
def test_what_is_no_penalty_in_balance_holds_nothing_down(given):
    (one,) = found(held(**given))
    assert one.severity.name == "INFO"
    assert "push" not in one.evidence
