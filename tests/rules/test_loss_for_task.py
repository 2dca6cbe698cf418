from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

import plumbob
from asking import found as asked
from asking import normal
from nets_loss import loss_for_task as zoo
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.loss_for_task import loss_for_task
from plumbob.survey.measure import measure
from plumbob.types import Loss, Needs, Optimizer, Output, Step, Survey

ONE = normal(64, 1)
CLASSES = torch.randint(5, (64,), generator=seeded(1))


def survey(*, optimizer="SGD", curvature=0.01, loss=0.1, **facts):
    """A slope of 1/50, and a step of a hundredth: one half with cross-entropy."""
    known = Loss(
        samples=9,
        batch=9,
        units=10,
        targets="classes",
        wants="numbers",
        link="softmax",
        gain=0.02,
    )
    output = Output(
        site=None,
        loss=loss,
        shifted=0.09,
        zero=0.1,
        constant=0.09,
        floor=0.0,
        shift=torch.zeros(10).numpy(),
        best=torch.zeros(10).numpy(),
        mean_output=torch.zeros(10).numpy(),
    )
    held = Optimizer(name=optimizer, steps=0, groups=())
    return Survey(
        sites=(),
        known=Needs.LOSS,
        loss=replace(known, **facts),
        output=output,
        optimizer=held if optimizer else None,
        step=Step(samples=9, curvature=curvature),
    )


def severity(**facts):
    return [f.severity.name for f in findings(loss_for_task, survey(**facts))]


@pytest.mark.parametrize(
    ("facts", "severities"),
    [
        ({}, ["WARNING"]),
        ({"curvature": 0.079}, ["WARNING"]),
        ({"curvature": 0.081}, ["INFO"]),  # too long for cross-entropy
        ({"curvature": 0.0}, ["INFO"]),  # no step could be tried
        ({"gain": 0.09}, ["WARNING"]),
        ({"gain": 0.11}, ["INFO"]),
        ({"gain": None, "link": "identity"}, ["INFO"]),
        ({"optimizer": "Adam"}, ["INFO"]),
        ({"optimizer": ""}, ["INFO"]),
        ({"loss": 0.046}, ["WARNING"]),
        ({"loss": 0.044}, ["INFO"]),  # half of it is learnt
        ({"targets": "shares"}, []),  # a distillation of shares
        ({"targets": "numbers", "wants": None}, []),
        ({"wants": "scores"}, []),
    ],
)
def test_edges(facts, severities):
    assert severity(**facts) == severities


def test_a_categorical_loss_over_one_unit():
    def of_shares(outputs, targets):
        p = outputs / outputs.sum(-1, keepdim=True)
        return -(targets * p.clamp(1e-7, 1 - 1e-7).log()).mean()

    zero_one = (CLASSES > 2).float()[:, None]
    for loss, targets in (
        (of_shares, zero_one),
        (nn.CrossEntropyLoss(), torch.zeros(64).long()),
    ):
        (one,) = asked(loss_for_task, loss, ONE, targets)
        assert one.severity.name == "ERROR"
    assert not asked(loss_for_task, nn.BCEWithLogitsLoss(), ONE, zero_one)


def test_a_loss_that_ignores_all_targets_is_another_matter():
    loss = nn.CrossEntropyLoss(ignore_index=0)
    everything = torch.zeros(64).long()
    assert not asked(loss_for_task, loss, normal(64, 5), everything)


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss()])
def test_numbered_classes_for_one_unit_are_a_note(loss):
    (one,) = asked(loss_for_task, loss, ONE, CLASSES[:, None].float())
    assert one.severity.name == "INFO"
    assert one.evidence["levels"] == 5
    amounts = CLASSES[:, None] * 0.37
    assert not asked(loss_for_task, loss, ONE, amounts)


def test_counts_under_a_likelihood_of_counts_are_no_classes():
    counts = CLASSES[:, None].float()
    assert not asked(loss_for_task, nn.PoissonNLLLoss(), ONE, counts)


@pytest.mark.parametrize(
    ("last", "rate", "kind"),
    [
        ([nn.Softmax(-1)], 0.1, "WARNING"),
        ([nn.Softmax(-1)], 10.0, "INFO"),  # a rate for this very loss
        ([], 0.1, "INFO"),
    ],
)
def test_squares_on_twenty_classes(last, rate, kind):
    case = zoo(leans=True)
    model = nn.Sequential(*list(case["model"])[:3], *last)
    case |= {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=rate)}
    (one,) = findings(loss_for_task, measure(**case))
    assert one.severity.name == kind


def test_one_half_of_cross_entropy_is_a_note():
    model = nn.Sequential(*mlp(8, 16, 1), nn.Sigmoid())
    case = {"targets": (CLASSES > 2).float()[:, None], "loss": functional.mse_loss}
    held = torch.optim.SGD(model.parameters(), lr=1e-4)
    report = plumbob.check(model, normal(64, 8), optimizer=held, **case)
    (one,) = [f for f in report.findings if f.code == "PB612"]
    assert one.severity.name == "INFO"
    assert one.evidence["gain"] < 0.5
