import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from nets_inputs import missing_nonlinearity
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.missing_nonlinearity import missing_nonlinearity as rule
from plumbob.survey.measure import measure


def found(model, x, y, loss=mse_loss, **limits):
    return list(findings(rule, measure(model, x, targets=y, loss=loss), **limits))


def line(*widths):
    layers = (layer for layer in mlp(*widths) if isinstance(layer, nn.Linear))
    return nn.Sequential(*layers)


def data(samples=200, width=2):
    return torch.rand(samples, width, generator=seeded()) * 2 - 1


def test_the_widest_map_that_is_read_gets_the_activation():
    x = data()
    (finding,) = found(line(2, 3, 9, 1), x, x[:, :1] ** 2)
    assert finding.remedy.arguments == {"module": "1", "activation": "relu"}
    assert finding.evidence["maps"] == 3
    assert finding.evidence["affine"] == pytest.approx(1, abs=0.1)


def test_a_loader_of_small_batches_is_judged_together():
    x = data()
    pairs = list(zip(x.split(10), (x[:, :1] ** 2).split(10), strict=True))
    survey = measure(line(2, 9, 1), pairs, loss=mse_loss)
    (finding,) = findings(rule, survey)
    assert finding.evidence["samples"] == 200


@pytest.mark.parametrize(
    ("between", "told"),
    [((), True), ((nn.Dropout(0.1), nn.BatchNorm1d(9)), True), ((nn.ReLU(),), False)],
)
def test_only_what_nothing_bends_is_judged(between, told):
    x = data()
    model = nn.Sequential(nn.Linear(2, 9), *between, nn.Linear(9, 1))
    assert bool(found(model, x, x[:, :1] ** 2)) is told


def test_the_last_activation_is_no_bend_between_maps():
    x = data()
    y = (x.norm(dim=1) > 0.7).long()
    model = line(2, 9, 2).append(nn.Softmax(-1))
    assert found(model, x, y, cross_entropy)
    assert not found(model, x, (x[:, 0] > 0).long(), cross_entropy)


def test_more_than_two_classes_are_not_judged():
    x = data()
    y = (x.norm(dim=1) * 3).long().clamp(max=2)
    assert not found(line(2, 9, 3), x, y, cross_entropy)


def test_one_map_is_meant():
    x = data()
    assert not found(nn.Sequential(nn.Linear(2, 1)), x, x[:, :1] ** 2)


def test_linear_data_noise_and_autoencoders_are_well():
    noise = torch.randn(200, 1, generator=seeded(1))
    x = data(width=30)
    assert not found(line(30, 1, 1), x, x[:, 1:2])
    assert not found(line(30, 4, 1), x, x[:, 1:2] + noise)
    assert not found(line(30, 4, 1), x, noise)
    assert not found(line(30, 4, 30), x, x)


class Sides(nn.Module):
    """A linear forecaster: two maps side by side, or one behind the other."""

    def __init__(self, in_a_row):
        super().__init__()
        self.a, self.b = nn.Linear(48, 12), nn.Linear(48, 12)
        self.c = nn.Linear(12, 12) if in_a_row else nn.Identity()

    def forward(self, x):
        smooth = torch.nn.functional.avg_pool1d(x[:, None], 9, 1, 4)[:, 0]
        return self.c(self.a(smooth) + self.b(x - smooth))


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("in_a_row", [False, True])
def test_a_linear_forecaster_of_windows_of_one_series_is_well(in_a_row, shuffled):
    t = torch.arange(1100.0)
    walk = torch.randn(1100, generator=seeded()).cumsum(0)
    every = (torch.sin(t / 12) + 0.5 * torch.sin(t / 5) + 0.06 * walk).unfold(0, 60, 1)
    if shuffled:
        every = every[torch.randperm(len(every), generator=seeded())]
    x, y = every[:256, :48], every[:256, 48:]
    survey = measure(Sides(in_a_row), x, targets=y, loss=mse_loss)
    assert not list(findings(rule, survey))
    assert survey.inputs.maps == 1 + in_a_row
    assert "windows" in survey.unseen["inputs, in part"]


def test_maps_side_by_side_are_meant():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, x):
            return self.a(x) + self.b(x.flip(1))

    x = data()
    assert not found(Sum(), x, x[:, :1] ** 2)


def test_the_edge_of_the_gain():
    x = data(256)
    bend = (
        x[:, :1] + 0.6 * x[:, :1] ** 2 + 0.1 * torch.randn(256, 1, generator=seeded(2))
    )
    survey = measure(line(2, 9, 1), x, targets=bend, loss=mse_loss)
    fits = survey.inputs.fits
    gain = 1 - fits.smooth / fits.affine
    assert 0 < gain < 1
    assert list(findings(rule, survey, gain_above=gain - 1e-6))
    assert not list(findings(rule, survey, gain_above=gain))
    assert not list(findings(rule, survey, sure_above=fits.sure))


def test_the_zoo_is_of_two_maps():
    assert len(missing_nonlinearity(leans=True)["model"]) == 2
