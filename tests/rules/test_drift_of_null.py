from dataclasses import replace

import pytest

from past_by_hand import severities, survey
from plumbob.rules.drift_of_null import drift_of_null
from plumbob.types import Proof


def drifting(steps, *, optimizer="Adam", training="null", rows=100, **facts):
    """100 elements that moved by so many steps of 0.01 each."""
    case = survey(
        {
            "a.weight": {},
            "a.bias": {"moved": steps * 0.01 * 100**0.5, "lr": 0.01} | facts,
        },
        optimizer=optimizer,
    )
    proof = Proof(
        parameter="a.bias",
        rows=(0, rows),
        by="batch-norm",
        training=training,
        inference="gauge",
        steps=(),
    )
    return replace(case, proofs=(proof,))


@pytest.mark.parametrize(("steps", "fires"), [(0.9, False), (1.1, True), (50, True)])
def test_by_more_than_a_step(steps, fires):
    assert severities(drift_of_null, drifting(steps)) == ["INFO"] * fires


@pytest.mark.parametrize(
    "reason",
    [
        {"optimizer": "SGD"},
        {"training": None},
        {"training": "gauge"},
        {"rows": 99},
        {"decay": 0.1},
        {"lr": 0.0},
    ],
    ids=lambda reason: next(iter(reason)),
)
def test_another_reason_to_move(reason):
    assert severities(drift_of_null, drifting(50, **reason)) == []
