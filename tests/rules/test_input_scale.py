import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from nets_inputs import input_scale
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.input_scale import input_scale as rule
from plumbob.survey.measure import measure
from plumbob.types import Safety, Severity
from plumbob.verbs.apply import apply


def found(model, x, y, loss=mse_loss, **given):
    return list(findings(rule, measure(model, x, targets=y, loss=loss, **given)))


def data(samples=128):
    x = torch.randn(samples, 8, generator=seeded())
    return x, x[:, :1] + 0.1 * torch.randn(samples, 1, generator=seeded(1))


def test_large_inputs_are_told_by_what_they_make_of_the_outputs():
    (finding,) = findings(rule, measure(**input_scale(leans=True)))
    assert finding.site == "0"
    assert finding.evidence["size"] == pytest.approx(1000, rel=0.1)
    assert finding.evidence["louder"] == pytest.approx(
        finding.evidence["output"] / finding.evidence["target"]
    )


def test_just_as_large_targets_make_them_well():
    x, y = data()
    assert found(mlp(8, 16, 1), x * 1000, y)
    assert not found(mlp(8, 16, 1), x * 1000, y * 1000)


@pytest.mark.parametrize(
    "first",
    [
        nn.BatchNorm1d(8),
        nn.LayerNorm(8),
        nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)),
        nn.Sequential(nn.Linear(8, 8), nn.Tanh()),
    ],
)
def test_a_norm_or_a_bound_makes_them_well(first):
    x, y = data()
    assert not found(nn.Sequential(first, mlp(8, 16, 1)), x * 255, y)


def test_pixels_into_a_convolution_and_a_norm():
    x = torch.randint(256, (16, 3, 8, 8), generator=seeded()).float()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model.extend([nn.Flatten(), nn.Linear(4 * 36, 3)])
    assert not found(model, x, torch.arange(16) % 3, cross_entropy)


@pytest.mark.parametrize(("limit", "told"), [(0.99, True), (1.01, False)])
def test_the_edge_of_loudness(limit, told):
    case = input_scale(leans=True)
    case["model"][2].weight.data *= 0.1  # louder by less than the inputs are large
    survey = measure(**case)
    (finding,) = findings(rule, survey)
    at = finding.evidence["louder"] * limit
    assert bool(list(findings(rule, survey, louder_above=at))) is told


@pytest.mark.parametrize(
    ("scale", "told"), [(1e-3, True), (0.034, True), (0.037, False), (1.0, False)]
)
def test_inputs_too_small(scale, told):
    x, y = data()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    findings = found(mlp(8, 16, 1), x * scale, y)
    assert len(findings) == told
    if told:
        length = findings[0].evidence["length"]
        assert length == pytest.approx(scale * 8**0.5, rel=1e-4)


def test_unit_vectors_and_one_hot_codes_are_not_small():
    _, y = data()
    x = torch.randn(128, 384, generator=seeded())
    x = x / x.norm(dim=1, keepdim=True)
    assert not found(mlp(384, 16, 1), x, y)
    x = nn.functional.one_hot(torch.arange(128) % 100, 100).float()
    assert not found(mlp(100, 16, 1), x, y)


@pytest.mark.parametrize(("scale", "told"), [(300, False), (2000, True)])
def test_unequal_features(scale, told):
    x, y = data()
    x = x / 100
    x[:, 3] *= scale
    findings = [f for f in found(mlp(8, 16, 1), x, y) if "unequal" in f.evidence]
    assert len(findings) == told
    assert all(f.evidence["feature"] == 3 for f in findings)


@pytest.mark.parametrize(
    ("scale", "told"), [(1e-3, True), (1, False), (50, False), (1e4, True)]
)
def test_the_scale_of_targets(scale, told):
    x, y = data()
    assert len(found(mlp(8, 16, 1), x, y * scale)) == told


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("make", "severity"),
    [
        (lambda p: torch.optim.Adam(p, 1.0), Severity.INFO),
        (lambda p: torch.optim.Adam(p, 1e-3), Severity.WARNING),
        (lambda p: torch.optim.SGD(p, 1e-12), Severity.WARNING),
        (lambda p: torch.optim.SGD(p, 10.0), Severity.WARNING),  # diverges
    ],
)
def test_targets_that_the_first_steps_reach_are_a_note(make, severity, reduction):
    x, y = data()
    model = mlp(8, 16, 1)
    optimizer = make(model.parameters())
    loss = nn.MSELoss(reduction=reduction)
    (finding,) = found(model, x, 500 * y, loss, optimizer=optimizer)
    assert finding.severity is severity
    if severity is Severity.INFO:
        assert 0.1 <= finding.evidence["soon"] <= 1


@pytest.mark.parametrize(("limit", "severity"), [(0.99, "INFO"), (1.01, "WARNING")])
def test_the_edge_of_soon(limit, severity):
    x, y = data()
    model = mlp(8, 16, 1)
    optimizer = torch.optim.Adam(model.parameters(), 1.0)
    survey = measure(model, x, targets=500 * y, loss=mse_loss, optimizer=optimizer)
    (finding,) = findings(rule, survey)
    at = finding.evidence["soon"] * limit
    (finding,) = findings(rule, survey, soon_above=at)
    assert finding.severity.name == severity


def test_a_zero_head_and_a_net_that_has_learnt_are_well():
    x, y = data()
    model = mlp(8, 16, 1)
    model[2].weight.data.zero_()
    assert not found(model, x, y)
    linear = nn.Sequential(nn.Linear(8, 1))
    linear[0].weight.data = torch.eye(8)[:1]
    assert not found(linear, x * 1000, y * 1000)
    linear[0].weight.data /= 1000
    assert not found(linear, x * 1000, y)


def test_tokens_have_no_scale():
    model = nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), mlp(8, 16, 3))
    x = torch.randint(9, (64, 1), generator=seeded())
    assert not found(model, x, torch.arange(64) % 3, cross_entropy)


def test_scores_that_are_compared_by_their_softmax_may_have_any_size():
    model = mlp(8, 16, 4)
    model[2].weight.data *= 20
    x = torch.randn(256, 8, generator=seeded())
    taught = torch.full((256, 4), 0.25) + 0.01 * torch.randn(256, 4, generator=seeded())
    taught = taught.softmax(1)

    def loss(scores, taught):
        return -(taught * scores.log_softmax(1)).sum(1).mean()

    assert not found(model, x, taught, loss)
    assert found(model, x, taught)


def standardised(model, x, y, loss=mse_loss):
    """Follow the remedy; return the mended model, and what is found then."""
    (finding,) = found(model, x, y, loss)
    assert finding.remedy.safety is Safety.CHANGES_TRAINING
    mended = apply(finding, model)
    return mended, found(mended, x, y, loss)


@pytest.mark.parametrize("scale", [1e-3, 1000.0])
def test_its_remedy_standardises_what_the_first_map_reads(scale):
    x, y = data()
    x = x * scale + 3 * scale
    x[:, 2] = 7.0  # never varies
    mended, left = standardised(mlp(8, 16, 1), x, y)
    assert not left
    sd = x.std(0, correction=0)
    sd[2] = sd[[0, 1, *range(3, 8)]].median()
    torch.testing.assert_close(mended[0].input_mean, x.mean(0))
    torch.testing.assert_close(mended[0].input_scale, sd, rtol=1e-4, atol=0)
    fresh = mlp(8, 16, 1)
    torch.testing.assert_close(
        mended(x), fresh((x - x.mean(0)) / mended[0].input_scale), rtol=1e-4, atol=1e-4
    )
    assert all(map(torch.equal, mended.parameters(), fresh.parameters()))


def test_features_of_units_of_their_own_become_alike():
    x, y = data()
    x = x / 100
    x[:, 3] *= 2000
    mended, left = standardised(mlp(8, 16, 1), x, y)
    assert not left
    seen = (x - mended[0].input_mean) / mended[0].input_scale
    torch.testing.assert_close(seen.std(0, correction=0), torch.ones(8))


def test_the_channels_of_a_convolution_are_standardised():
    x = 500 * torch.rand(32, 3, 8, 8, generator=seeded()) * torch.ones(3, 1, 1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(4 * 36, 3))
    mended, left = standardised(model, x, torch.arange(32) % 3, cross_entropy)
    assert not left
    assert mended[0].input_scale.shape == (3,)
    torch.testing.assert_close(
        mended[0].input_scale, x.std((0, 2, 3), correction=0), rtol=0.1, atol=0
    )


def test_inputs_that_the_model_scales_itself_are_well():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(8, 16, 1)

        def forward(self, x):
            return self.net(x / 1e4)

    x, y = data()
    assert not found(Scaled(), 1e4 * x, y)


class Between(nn.Module):
    """A net between what the model makes of its inputs and of the net's outputs."""

    def __init__(self, before, behind, units=1):
        super().__init__()
        self.net, self.before, self.behind = mlp(8, 16, units), before, behind

    def forward(self, x):
        return self.behind(self.net(self.before(x)))


def same(x):
    return x


UNITS = torch.logspace(-3, 3, 8)


@pytest.mark.parametrize(
    ("given", "before"),
    [
        (lambda x: UNITS * x, lambda x: x / UNITS),
        (lambda x: x / 1000, lambda x: x * 1000),
        (lambda x: (5 + 3 * x).exp(), torch.log1p),
        (lambda x: 1e4 * x + 3e4, lambda x: (x - 3e4) / 1e4),
    ],
)
def test_only_what_the_first_map_reads_is_judged(given, before):
    x, y = data()
    assert found(Between(same, same), given(x), y)
    assert not found(Between(before, same), given(x), y)


@pytest.mark.parametrize("units", [torch.ones(8) / 1000, torch.logspace(-7, 0, 8)])
@pytest.mark.parametrize("told", [False, True])
def test_what_one_of_several_maps_sees_well_is_not_lost(units, told):
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.deep = nn.Linear(8, 16), nn.Linear(8, 16)
            self.head = nn.Linear(16, 1)

        def forward(self, x):
            wide = self.wide(x)
            deep = self.deep(x if told else x / units)
            return self.head((wide + deep).relu())

    x, y = data()
    assert bool(found(Wide(), x * units, y)) is told


@pytest.mark.parametrize(("scale", "mean"), [(5e3, 2e4), (5e3, 0), (1e-3, 0.5)])
@pytest.mark.parametrize("size", [1, 0])
def test_a_model_may_put_its_outputs_in_the_targets_units(scale, mean, size):
    x, y = data()
    y = y * scale + mean
    plain = Between(same, same)
    assert found(plain, x, y)
    model = Between(same, lambda z: z * scale + mean)
    model.net[2].weight.data *= size  # a zero head has not shown what is made of it
    model.net[2].bias.data.zero_()
    assert not found(model, x, y)


def test_a_series_scaled_by_its_own_deviation_and_back():
    class Reversible(nn.Module):
        def __init__(self, *, back):
            super().__init__()
            self.net, self.back = mlp(8, 16, 1), back

        def forward(self, x):
            mean, sd = x.mean(1, keepdim=True), x.std(1, keepdim=True)
            y = self.net((x - mean) / sd)
            return y * sd + mean if self.back else y

    x, _ = data()
    x = 300 * x + 1e5 * torch.rand(128, 1, generator=seeded(2))
    x, y = x[:, :8], x[:, -1:] + 300 * torch.randn(128, 1, generator=seeded(3))
    assert found(Reversible(back=False), x, y)
    assert not found(Reversible(back=True), x, y)


def test_scores_are_judged_as_the_loss_reads_them():
    x = 300 * data()[0]
    y = torch.arange(128) % 4
    assert found(Between(same, same, 4), x, y, cross_entropy)
    assert not found(Between(same, lambda z: z / 300, 4), x, y, cross_entropy)


def test_by_hand_where_several_maps_read_the_input():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)
            self.head = nn.Linear(16, 1)

        def forward(self, x):
            return self.head(torch.cat([self.one(x), self.two(x)], 1).relu())

    x, y = data()
    (finding,) = found(Two(), 1e4 * x, y)
    assert (finding.remedy.act, finding.remedy.safety) == (None, Safety.MANUAL)
