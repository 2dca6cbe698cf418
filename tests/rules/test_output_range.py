import pytest
import torch
from torch import nn
from torch.nn import functional

from nets_inputs import binary, output_range
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.output_range import output_range as rule
from plumbob.survey.measure import measure
from plumbob.types import Severity


def found(model, x, y, loss=functional.mse_loss, **limits):
    survey = measure(model, x, targets=y, loss=loss)
    return list(findings(rule, survey, **limits))


def cross_entropy(p, y):
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


def net(*last):
    return nn.Sequential(*mlp(8, 16, 1), *last)


def data():
    return torch.randn(64, 8, generator=seeded()), torch.linspace(-1, 1, 64)[:, None]


def test_half_of_minus_one_and_one_is_lost():
    (finding,) = findings(rule, measure(**output_range(leans=True)))
    y = output_range(leans=True)["targets"]
    assert finding.evidence["outside"] == pytest.approx((y < 0).double().mean())
    lost = float((y.clamp(0) - y).square().mean() / y.var(correction=0))
    assert finding.evidence["lost"] == pytest.approx(lost, rel=1e-5)
    assert finding.remedy.arguments == {"module": "3", "activation": "identity"}
    assert (finding.severity is Severity.ERROR) is (lost > 0.5)


@pytest.mark.parametrize(
    ("shift", "says"), [(0.0, "50% of what"), (-1.5, "more than all of what")]
)
def test_more_than_all_is_not_a_percentage(shift, says):
    x, y = data()
    (finding,) = found(net(nn.ReLU()), x, y + shift)
    assert says in finding.message
    assert finding.evidence["lost"] < 1 or shift


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ((nn.Sigmoid(),), True),
        ((nn.Tanh(),), False),
        ((nn.ReLU(),), True),
        ((nn.Softplus(),), True),
        ((nn.LeakyReLU(),), False),
        ((nn.ELU(),), False),  # its bound depends on alpha and is not said
        ((nn.SiLU(),), True),
        ((nn.Tanh(), nn.ReLU()), True),
        ((nn.Tanh(), nn.Linear(1, 1)), False),
        ((), False),
    ],
)
def test_the_range_is_that_of_all_last_activations(last, told):
    x, y = data()
    assert len(found(net(*last), x, y)) == told


def test_a_relu_before_a_sigmoid_never_says_no():
    x, y = binary()
    (finding,) = found(net(nn.ReLU(), nn.Sigmoid()), x, y, cross_entropy)
    assert finding.evidence["low"] == pytest.approx(0.5)
    assert finding.remedy.act is None  # which of the two is one too many is not known


@pytest.mark.parametrize(("high", "told"), [(1.29, False), (1.31, True)])
def test_what_is_lost_decides(high, told):
    """Targets uniform from 0 to h lose (h - 1)^3 / 3h of their h^2 / 12."""
    x = torch.randn(4096, 8, generator=seeded())
    y = torch.linspace(0, high, 4096)[:, None]
    findings = found(net(nn.Sigmoid()), x, y)
    assert len(findings) == told
    if told:
        lost = 4 * (high - 1) ** 3 / high**3
        assert findings[0].evidence["lost"] == pytest.approx(lost, rel=1e-2)


def test_smoothed_labels_and_an_outlier_are_well():
    x, y = binary()
    assert not found(net(nn.Sigmoid()), x, 0.1 + 0.8 * y)
    y[0] = 1.2
    assert not found(net(nn.Sigmoid()), x, y)


@pytest.mark.parametrize(
    "loss",
    [functional.binary_cross_entropy_with_logits, functional.hinge_embedding_loss],
)
def test_a_loss_that_does_not_want_its_targets_is_not_judged(loss):
    x, y = binary()
    assert not found(net(nn.Tanh()), x, 2 * y - 1 if "soft" in str(loss) else y, loss)


def test_numbers_of_classes_are_no_values():
    x = torch.randn(64, 8, generator=seeded())
    model = mlp(8, 16, 4).append(nn.LogSoftmax(-1))
    assert not found(model, x, torch.arange(64) % 4, functional.nll_loss)


@pytest.mark.parametrize(("last", "told"), [(nn.Sigmoid(), 1), (nn.Identity(), 0)])
def test_an_autoencoder_of_standardised_inputs(last, told):
    x = torch.randn(64, 8, generator=seeded())
    model = nn.Sequential(*mlp(8, 4, 8), last)
    assert len(found(model, x, x)) == told


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.act = mlp(8, 16, 1), nn.Sigmoid()

    def forward(self, x):
        z = self.body(x)
        return {"features": z, "p": self.act(z)}


def test_the_part_that_the_loss_reads_is_judged():
    x, y = data()
    (finding,) = found(Two(), x, y, lambda out, y: (out["p"] - y).square().mean())
    assert finding.site == "body.2"
    assert not found(Two(), x, y, lambda out, y: (out["features"] - y).square().mean())


def test_an_image_of_negative_numbers_behind_a_sigmoid():
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    model.extend([nn.Conv2d(4, 1, 3, padding=1), nn.Sigmoid()]).bfloat16()
    x = torch.randn(8, 1, 6, 6, generator=seeded()).bfloat16()
    (finding,) = found(model, x, x)
    assert finding.evidence["outside"] == pytest.approx(0.5, abs=0.2)
