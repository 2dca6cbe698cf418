from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

import plumbob
from asking import found as asked
from asking import normal
from nets_loss import softmax_before_cross_entropy as zoo
from netting import seeded
from plumbob.rule import findings
from plumbob.rules.softmax_before_cross_entropy import softmax_before_cross_entropy
from plumbob.types import Loss, Needs, Survey

FACTS = Loss(
    samples=9,
    batch=9,
    units=2,
    targets="classes",
    wants="scores",
    link="softmax",
    high=1.0,
    exact=0.3,
    zero=0.7,
    best=0.0,
    value=0.7,
)


def fires(**facts):
    survey = Survey(sites=(), known=Needs.LOSS, loss=replace(FACTS, **facts))
    return bool(list(findings(softmax_before_cross_entropy, survey)))


def found(last, loss, targets):
    z = normal(64, 5)
    model = nn.Sequential(*last)
    return asked(softmax_before_cross_entropy, loss, model(z), targets, z=z)


@pytest.mark.parametrize(
    ("facts", "leans"),
    [
        ({}, True),
        ({"exact": 0.071}, True),
        ({"exact": 0.069}, False),  # a tenth of 0.7: so little is lost
        ({"wants": "probabilities"}, False),
        ({"wants": "numbers"}, False),
        ({"off": 0.1}, False),  # two numbers that are no shares of one
        ({"off": 0.1, "link": "sigmoid"}, True),
        ({"low": -1.0, "link": "log_softmax"}, False),
        ({"best": None}, False),
        ({"zero": 0.0}, False),  # the target is all that there is
    ],
)
def test_edges(facts, leans):
    assert fires(**facts) is leans


CLASSES = torch.randint(5, (64,), generator=seeded(1))
LABELS = (torch.rand(64, 5, generator=seeded(2)) < 0.4).float()
SHARES = torch.randn(64, 5, generator=seeded(3)).softmax(-1)
SOFTMAX, SIGMOID = nn.Softmax(-1), nn.Sigmoid()


def focal(outputs, targets):
    p = outputs.softmax(-1).gather(1, targets[:, None])
    return -((1 - p) ** 2 * p.log()).mean()


def with_z_loss(outputs, targets):
    z = outputs.logsumexp(-1)
    return functional.cross_entropy(outputs, targets) + 1e-4 * z.square().mean()


@pytest.mark.parametrize(
    ("last", "loss", "targets"),
    [
        ([SOFTMAX], nn.CrossEntropyLoss(), CLASSES),
        ([SOFTMAX], nn.CrossEntropyLoss(reduction="sum"), CLASSES),
        ([SOFTMAX], nn.CrossEntropyLoss(torch.arange(1.0, 6.0)), CLASSES),
        ([SOFTMAX], nn.CrossEntropyLoss(label_smoothing=0.1), CLASSES),
        ([SOFTMAX], nn.CrossEntropyLoss(ignore_index=3), CLASSES),
        ([SOFTMAX], lambda o, y: functional.cross_entropy(o, y), CLASSES),
        ([SOFTMAX], focal, CLASSES),
        ([SOFTMAX], with_z_loss, CLASSES),
        ([SOFTMAX], nn.CrossEntropyLoss(), SHARES),
        ([SIGMOID], nn.BCEWithLogitsLoss(), LABELS),
        ([SIGMOID], nn.BCEWithLogitsLoss(pos_weight=torch.full((5,), 3.0)), LABELS),
    ],
)
def test_a_loss_that_makes_probabilities_itself(last, loss, targets):
    (one,) = found(last, loss, targets)
    assert one.severity.name == "WARNING"
    assert found([], loss, targets) == []


@pytest.mark.parametrize(
    ("last", "loss", "targets"),
    [
        ([nn.LogSoftmax(-1)], nn.NLLLoss(), CLASSES),
        ([nn.LogSoftmax(-1)], nn.CrossEntropyLoss(), CLASSES),  # the same twice
        ([SOFTMAX], lambda o, y: functional.nll_loss(o.log(), y), CLASSES),
        ([SOFTMAX], lambda o, y: functional.cross_entropy(30 * o, y), CLASSES),
        ([SOFTMAX], nn.MultiMarginLoss(), CLASSES),  # a margin of 1 is in reach
        ([SOFTMAX], lambda o, y: (1 - o.gather(1, y[:, None])).mean(), CLASSES),
        ([SIGMOID], nn.BCELoss(), LABELS),
        ([SIGMOID], lambda o, y: 1 - 2 * (o * y).sum() / (o + y).sum(), LABELS),
        ([SIGMOID], nn.MSELoss(), LABELS),
    ],
)
def test_losses_for_which_probabilities_are_right(last, loss, targets):
    assert found(last, loss, targets) == []


def test_the_share_out_of_reach_is_the_closed_form():
    (one,) = found([SOFTMAX], nn.CrossEntropyLoss(), CLASSES)
    exact = torch.log1p(4 * torch.exp(torch.tensor(-1.0))).item()
    assert one.evidence["exact"] == pytest.approx(exact)
    assert one.evidence["lost"] == pytest.approx(exact / torch.tensor(5.0).log().item())


def test_pixels():
    z, loss = normal(16, 4, 6, 6), nn.CrossEntropyLoss()
    y = torch.randint(4, (16, 6, 6), generator=seeded(1))
    rule = softmax_before_cross_entropy
    assert asked(rule, loss, z.softmax(1), y, z=z)
    assert not asked(rule, loss, z, y)


def test_the_remedy_takes_the_last_activation_away():
    case = zoo(leans=True)
    (one,) = [f for f in plumbob.check(**case).findings if f.code == "PB602"]
    assert one.remedy.arguments == {"module": "3", "activation": "identity"}
    mended = plumbob.apply(one, case["model"])
    assert torch.equal(mended(case["data"]), case["model"][:3](case["data"]))
