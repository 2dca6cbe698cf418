import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from nets_inputs import bad_targets
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.bad_targets import bad_targets as rule
from plumbob.survey.measure import measure
from plumbob.types import Severity


def found(model, x, y, loss=cross_entropy, **given):
    return list(findings(rule, measure(model, x, targets=y, loss=loss, **given)))


def data(samples=200, classes=4):
    """Inputs around one place for each class."""
    y = torch.arange(samples) % classes
    x = torch.randn(samples, 8, generator=seeded())
    x[torch.arange(samples), y] += 4
    return x, y


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_target_that_is_not_finite_and_breaks_the_loss(value):
    case = bad_targets(leans=False)
    case["targets"][3] = case["targets"][5] = value
    (finding,) = findings(rule, measure(**case))
    assert finding.evidence["nonfinite"] == 2
    assert finding.severity is Severity.ERROR


def test_one_that_the_loss_leaves_out_is_well():
    case = bad_targets(leans=True)

    def loss(output, target):
        known = target.isfinite()
        return mse_loss(output[known], target[known])

    assert not list(findings(rule, measure(**case | {"loss": loss})))


def test_labels_beyond_the_units():
    x, y = data()

    def loss(output, target):
        return cross_entropy(output, target.clamp(0, 3))

    assert not found(mlp(8, 16, 4), x, y, loss)
    y[3] = 255
    assert not found(mlp(8, 16, 4), x, y, loss)  # one value: left out on purpose
    y[4] = -1
    (finding,) = found(mlp(8, 16, 4), x, y, loss)
    assert finding.evidence["outside"] == 2
    assert finding.severity is Severity.WARNING


def test_the_label_that_the_loss_leaves_out():
    x, y = data()
    y[::3] = 255
    assert not found(mlp(8, 16, 4), x, y, nn.CrossEntropyLoss(ignore_index=255))
    y[::3] = -100
    assert not found(mlp(8, 16, 4), x, y)


@pytest.mark.parametrize(
    ("samples", "severity"), [(99, Severity.INFO), (100, Severity.WARNING)]
)
@pytest.mark.parametrize("kind", ["classes", "binary", "one-hot"])
def test_a_single_class(samples, severity, kind):
    x = torch.randn(samples, 8, generator=seeded())
    ones = torch.ones(samples, 1)
    model, y, loss = {
        "classes": (mlp(8, 16, 4), torch.ones(samples).long(), cross_entropy),
        "binary": (mlp(8, 16, 1), ones, mse_loss),
        "one-hot": (mlp(8, 16, 2), torch.cat([ones, 0 * ones], 1), mse_loss),
    }[kind]
    (finding,) = found(model, x, y, loss)
    assert finding.severity is severity


def trained(x, y, steps):
    model = mlp(8, 4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        loss = cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, optimizer


def shuffled(samples=200):
    x, y = data(samples)
    return x, y[torch.randperm(samples, generator=seeded(3))]


def test_shuffled_labels_of_a_trained_net():
    x, y = shuffled(256)
    model = nn.Sequential(*mlp(8, 4, 4))
    model[2].weight.data.zero_()  # nothing was learnt
    (finding,) = found(model, x, y, stage="trained")
    assert finding.severity is Severity.INFO
    assert finding.evidence["neighbour"] == pytest.approx(1, abs=0.15)
    x, y = data(256)
    assert not found(model, x, y, stage="trained")  # it did not learn, but it could


def test_what_can_hardly_be_predicted_is_no_fault():
    x = torch.randn(1024, 10, generator=seeded())
    y = 0.15 * x[:, :1] + torch.randn(1024, 1, generator=seeded(1))
    model = mlp(10, 16, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for batch in torch.arange(1024).split(32) * 4:
        loss = mse_loss(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    (finding,) = found(model, x, y, mse_loss, optimizer=optimizer)
    assert finding.severity is Severity.INFO


def test_without_training_or_power_nothing_is_said():
    x, y = shuffled(256)
    model = mlp(8, 4, 4)
    model[2].weight.data.zero_()
    assert not found(model, x, y)
    assert not found(model, x, y, stage="init")
    assert not found(model, x[:16], y[:16], stage="trained")
    ids = nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), model)
    assert not found(ids, torch.randint(9, (256, 1)), y, stage="trained")


def test_a_net_that_memorises_random_labels_is_not_told():
    x, y = shuffled(64)
    model, optimizer = trained(x, y, 300)
    assert not found(model, x, y, optimizer=optimizer, stage="trained")


def test_what_a_critic_is_told_of_all_that_is_made_is_no_fault():
    x, critic = data()[0], mlp(4, 8, 1).requires_grad_(False)

    def fooled(made, real):
        return nn.functional.binary_cross_entropy_with_logits(critic(made), real)

    (finding,) = found(mlp(8, 16, 4), x, torch.ones(200, 1), fooled)
    assert finding.severity is Severity.INFO


def test_whole_numbers_beside_a_mean_and_a_deviation_are_no_classes():
    x = torch.randn(256, 8, generator=seeded())
    ages = (40 + 10 * x[:, 0]).round().long()

    def loss(z, age):
        deviation = nn.functional.softplus(z[:, 1]) + 1e-3
        return nn.functional.gaussian_nll_loss(z[:, 0], age.float(), deviation)

    assert not found(mlp(8, 16, 2), x, ages, loss)
