"""No finding above info, and few of those, on networks that are well."""

import pytest
import torch

import healthy_others  # ruff: ignore[unused-import] (adds its families)
import healthy_transformers  # ruff: ignore[unused-import] (adds its families)
import plumbob
from healthy import FAMILIES
from plumbob import Severity

CHEAP = (
    "adamw_plain",
    "autoencoder",
    "binary",
    "logistic",
    "mlp_default",
    "mlp_he",
    "mlp_sgd",
    "multi_label",
    "one_hot_mse",
    "regression",
    "selu",
    "sigmoid_shallow",
    "tanh",
)


def judged(training, stage):
    report = plumbob.check(**training.case(), stage=stage)
    assert not report.crashed
    loud = [f for f in report.findings if f.severity > Severity.INFO]
    assert not loud, str(report)
    quiet = {f.code for f in report.findings if not f.code.startswith("PB3")}
    assert len(quiet) <= 3, str(report)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FAMILIES)
def test_a_healthy_network_is_left_in_peace(name, seed):
    torch.manual_seed(seed)
    training = FAMILIES[name](seed)
    if not training.trained_only:
        judged(training, "init")
    training.train()
    judged(training, "trained")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CHEAP)
def test_a_network_that_has_just_begun_is_left_in_peace(name, seed):
    torch.manual_seed(seed)
    training = FAMILIES[name](seed)
    training.epochs = 1
    training.train()
    judged(training, None)


def test_the_set_is_large_enough():
    assert len(FAMILIES) >= 15
