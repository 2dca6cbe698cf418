import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy, cross_entropy, mse_loss

from nets_inputs import binary, softmax_over_one
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.softmax_over_one import softmax_over_one as rule
from plumbob.survey.measure import measure
from plumbob.types import Severity


def found(model, data, **given):
    return list(findings(rule, measure(model, data, **given)))


def test_one_unit_is_told_without_a_loss_and_of_one_sample():
    (finding,) = found(softmax_over_one(leans=True)["model"], torch.randn(1, 8))
    assert finding.severity is Severity.ERROR
    assert finding.site == "2"
    assert finding.remedy.arguments == {"module": "3", "activation": "sigmoid"}


@pytest.mark.parametrize(
    ("high", "activation"), [(1.0, "sigmoid"), (1.01, "identity"), (5.0, "identity")]
)
def test_the_remedy_follows_the_targets(high, activation):
    case = softmax_over_one(leans=True)
    case |= {"targets": case["targets"] * high, "loss": mse_loss}
    (finding,) = findings(rule, measure(**case))
    assert finding.remedy.arguments["activation"] == activation


class Net(nn.Module):
    """A body and a function of it."""

    def __init__(self, body, end):
        super().__init__()
        self.body, self.end = body, end

    def forward(self, x):
        return self.end(self.body(x))


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda z: z.softmax(-1), True),
        (lambda z: {"p": z.log_softmax(1), "z": z}, True),
        (lambda z: z.squeeze(-1).softmax(0), False),  # over the samples, no row each
        (lambda z: z.sigmoid(), False),
        (lambda z: torch.cat([z, -z], 1).softmax(-1), False),
    ],
)
def test_it_is_told_of_functions_too_but_has_no_act(end, told):
    findings = found(Net(mlp(8, 16, 1), end), torch.randn(8, 8))
    assert [(f.site, f.remedy.act) for f in findings] == [("body.2", None)] * told


def test_one_channel_of_an_image_is_one_unit():
    model = nn.Sequential(nn.Conv2d(3, 1, 3), nn.Softmax(dim=1))
    (finding,) = found(model, torch.randn(4, 3, 8, 8))
    assert finding.site == "0"
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Softmax(dim=1))
    assert not found(model, torch.randn(4, 3, 8, 8))


class Pool(nn.Module):
    """Attention over time, by one score for each step."""

    def __init__(self, axis):
        super().__init__()
        self.score, self.out, self.axis = nn.Linear(8, 1), nn.Linear(8, 2), axis

    def forward(self, x):
        share = self.score(x).softmax(self.axis)
        return self.out((share * x).sum(1))


@pytest.mark.parametrize("steps", [1, 5])
def test_attention_over_steps_is_well_and_over_its_one_score_is_not(steps):
    x = torch.randn(6, steps, 8)
    assert not found(Pool(1), x)
    (finding,) = found(Pool(2), x)
    assert finding.severity is Severity.WARNING
    assert finding.site == "score"


@pytest.mark.parametrize("samples", [2, 16])
def test_the_axis_of_samples(samples):
    x, y = torch.randn(samples, 8), torch.arange(samples) % 3
    model = mlp(8, 16, 3).append(nn.Softmax(dim=0))
    (finding,) = found(model, x, targets=y, loss=cross_entropy)
    assert finding.severity is Severity.WARNING
    assert finding.remedy.arguments == {"module": "3", "activation": "softmax"}
    assert finding.evidence == {"units": 3, "size": samples}
    assert not found(mlp(8, 16, 3).append(nn.Softmax(dim=1)), x)


def test_a_choice_among_the_nodes_of_a_set_is_well():
    def likelihood(p, y):
        return -(y * p.log()).sum()

    x, one = torch.randn(50, 8, generator=seeded()), torch.eye(50)[:, 3:4]
    pointer = mlp(8, 16, 1).append(nn.Softmax(dim=0))
    assert not found(pointer, x, targets=one, loss=likelihood)
    assert not found(pointer, x)
    matching = mlp(8, 16, 50).append(nn.Softmax(dim=0))
    assert not found(matching, x, targets=torch.eye(50), loss=likelihood)
    several = mlp(8, 16, 4).append(nn.Softmax(dim=0))
    grades = torch.rand(50, 4, generator=seeded()).softmax(0)
    assert not found(several, x, targets=grades, loss=likelihood)


def test_weights_over_a_bag_are_no_output():
    """Attention over the instances of a bag, which come along the first axis."""

    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.score, self.out = nn.Linear(8, 3), nn.Linear(24, 2)

        def forward(self, x):
            share = self.score(x).softmax(0)
            return self.out((share.T @ x).reshape(1, -1))

    assert not found(Bag(), torch.randn(7, 8))


def test_halves_and_compiled_models():
    x, y = binary()
    model = softmax_over_one(leans=True)["model"].bfloat16()
    given = {"targets": y.bfloat16(), "loss": binary_cross_entropy}
    assert len(found(model, x.bfloat16(), **given)) == 1
    assert not found(mlp(8, 16, 1), torch.randn(4, 8, generator=seeded()))
