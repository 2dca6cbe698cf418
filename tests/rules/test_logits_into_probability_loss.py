from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

import plumbob
from asking import found as asked
from asking import normal
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.logits_into_probability_loss import logits_into_probability_loss
from plumbob.types import Act, Inputs, Loss, Needs, Severity, Survey

CLASSES = torch.randint(5, (64,), generator=seeded(1))
LABELS = (torch.rand(64, 5, generator=seeded(2)) < 0.4).float()
SHARES = normal(64, 5, seed=3).softmax(-1)
Z = normal(64, 5)
ONE, ZERO_ONE = 3 * Z[:, :1], LABELS[:, :1]
SOFTMAX, SIGMOID = nn.Softmax(-1), nn.Sigmoid()


def clamped(p):
    return p.clamp(1e-7, 1 - 1e-7)


def of_shares(outputs, targets):
    """Cross-entropy of outputs divided by their sum, as Keras takes it."""
    p = clamped(outputs / outputs.sum(-1, keepdim=True))
    return -p.gather(1, targets[:, None]).log().mean()


def of_one(outputs, targets):
    return -outputs.clamp(1e-10, 1).gather(1, targets[:, None]).log().mean()


def of_each(outputs, targets):
    p = clamped(outputs)
    return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()


def not_clamped(outputs, targets):
    return functional.nll_loss((outputs + 1e-8).log(), targets)


def distilled(outputs, targets):
    return functional.kl_div(outputs, targets, reduction="batchmean")


def found(last, loss, targets, z=Z):
    return asked(
        logits_into_probability_loss, loss, nn.Sequential(*last)(z), targets, z=z
    )


@pytest.mark.parametrize(
    ("last", "loss", "targets", "severity"),
    [
        ([], of_shares, CLASSES, "WARNING"),
        ([nn.ReLU()], of_shares, CLASSES, "ERROR"),
        ([nn.Tanh()], of_shares, CLASSES, "WARNING"),
        ([], of_one, CLASSES, "ERROR"),
        ([], not_clamped, CLASSES, "ERROR"),
        ([], of_each, LABELS, "WARNING"),
        ([nn.LogSoftmax(-1)], of_each, LABELS, "ERROR"),
        ([], nn.NLLLoss(), CLASSES, "ERROR"),
        ([SOFTMAX], nn.NLLLoss(), CLASSES, "WARNING"),
        ([SIGMOID], of_one, CLASSES, "ERROR"),
        ([SOFTMAX], distilled, SHARES, "WARNING"),
        ([], distilled, SHARES, "ERROR"),
    ],
)
def test_what_is_no_probability(last, loss, targets, severity):
    (one,) = found(last, loss, targets)
    assert one.severity.name == severity


@pytest.mark.parametrize("last", [[], [nn.ReLU()], [nn.Tanh()]])
def test_one_unit(last):
    (one,) = found(last, of_each, ZERO_ONE, ONE)
    assert one.evidence["stuck"] > 0
    assert not found([SIGMOID], of_each, ZERO_ONE, ONE)


@pytest.mark.parametrize(
    ("last", "loss", "targets"),
    [
        ([SOFTMAX], of_shares, CLASSES),
        ([SIGMOID], of_shares, CLASSES),  # it divides by the sum itself
        ([nn.Softplus()], of_shares, CLASSES),
        ([SOFTMAX], of_one, CLASSES),
        ([SOFTMAX], not_clamped, CLASSES),
        ([SOFTMAX], of_each, LABELS),
        ([SIGMOID], of_each, LABELS),  # each its own question
        ([SIGMOID], nn.BCELoss(), LABELS),
        ([nn.LogSoftmax(-1)], nn.NLLLoss(), CLASSES),
        ([SOFTMAX], lambda o, y: functional.nll_loss(o.log(), y), CLASSES),
        ([nn.LogSoftmax(-1)], distilled, SHARES),
        ([], nn.CrossEntropyLoss(), CLASSES),
        ([], nn.BCEWithLogitsLoss(), LABELS),
        ([], nn.MSELoss(), LABELS),
        ([nn.ReLU()], nn.MSELoss(), LABELS),
        ([SOFTMAX], lambda o, y: (1 - o.gather(1, y[:, None])).mean(), CLASSES),
    ],
)
def test_what_is_right(last, loss, targets):
    assert found(last, loss, targets) == []


def test_a_probability_that_is_sure_is_no_fault():
    """In 32 bits sigmoid(100) is 1, where a clamped logarithm is flat."""
    z = 100 * (2 * ZERO_ONE - 1)
    assert found([SIGMOID], of_each, ZERO_ONE, z) == []


def probability(**more):
    facts = Loss(
        samples=8,
        batch=8,
        units=1,
        targets="binary",
        wants="probabilities",
        high=0.9,
        value=0.5,
    )
    return replace(facts, **more)


def judged(loss, acts=()):
    inputs = Inputs(samples=8, acts=acts)
    survey = Survey(sites=(), known=Needs.LOSS, loss=loss, inputs=inputs)
    return list(findings(logits_into_probability_loss, survey))


@pytest.mark.parametrize(
    ("facts", "severity"),
    [
        ({"link": "sigmoid"}, None),
        ({}, None),  # nobody knows what made them, but they are in order
        ({"outside": 0.01}, Severity.WARNING),
        ({"link": "identity"}, Severity.WARNING),  # they will not stay there
        ({"link": "identity", "flat": 0.5}, Severity.WARNING),
        ({"link": "identity", "flat": 0.51}, Severity.ERROR),
        ({"link": "identity", "broken": 0.01}, Severity.ERROR),
        ({"link": "identity", "value": None}, Severity.ERROR),
        ({"link": "relu", "normalises": True, "low": 0.0}, Severity.WARNING),
        ({"link": "exp", "normalises": True, "low": 0.1, "high": 9.0}, None),
        ({"normalises": True, "low": 0.0}, Severity.WARNING),
    ],
)
def test_edges(facts, severity):
    assert [f.severity for f in judged(probability(**facts))] == (
        [] if severity is None else [severity]
    )


@pytest.mark.parametrize(
    ("facts", "acts", "arguments"),
    [
        ({}, (), {"module": "head", "activation": "sigmoid"}),
        (
            {"link": "relu"},
            (Act(name="relu", module="last", ends=True),),
            {"module": "last", "activation": "sigmoid"},
        ),
        ({"link": "relu"}, (Act(name="relu", module=None, ends=True),), {}),
        (
            {"units": 3, "targets": "classes"},
            (),
            {"module": "head", "activation": "softmax"},
        ),
        # set-activation's softmax is over the last axis
        ({"units": 3, "targets": "classes", "positions": 4}, (), {}),
    ],
)
def test_the_remedy_puts_an_activation_where_one_can_be(facts, acts, arguments):
    facts = {"link": "identity", "site": "head", "outside": 0.5} | facts
    (one,) = judged(probability(**facts), acts)
    assert dict(one.remedy.arguments) == arguments


def test_the_remedy_lets_it_learn():
    model = nn.Sequential(*mlp(8, 16, 5), nn.ReLU())
    x = normal(64, 8)
    case = {"data": x, "targets": CLASSES, "loss": of_shares}
    (one,) = [f for f in plumbob.check(model, **case).findings if f.code == "PB609"]
    mended = plumbob.apply(one, model)
    assert torch.equal(mended(x), model[:3](x).softmax(-1))
    assert not [f for f in plumbob.check(mended, **case).findings if f.code == "PB609"]
