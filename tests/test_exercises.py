"""Exercises on what weights and biases do, with answers that can be checked.

Each is solved with what users have: look, check, design, apply.
"""

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

import plumbob
from netting import codes, mlp, seeded
from plumbob import design


def normals(rows, mean, covariance):
    """Return rows with exactly this sample mean and covariance (divided by n)."""
    covariance = torch.tensor(covariance, dtype=torch.float64)
    x = torch.randn(rows, len(covariance), dtype=torch.float64, generator=seeded())
    x -= x.mean(0)
    now = torch.linalg.cholesky(x.T @ x / rows)
    then = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(now, x.T, upper=False).T
    return white @ then.T + torch.tensor(mean, dtype=torch.float64)


def grid(rows=20_000, sd=1.0):
    """Return the evenly spaced quantiles of a normal distribution, as one column."""
    normal = NormalDist(0, sd)
    values = [normal.inv_cdf((i + 0.5) / rows) for i in range(rows)]
    return torch.tensor(values, dtype=torch.float64)[:, None]


def unit(weights, bias=0.0, double=True):
    layer = nn.Linear(len(weights), 1)
    layer = layer.double() if double else layer
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights]))
        layer.bias.fill_(bias)
    return layer


def wrapped(layer):
    return nn.Sequential(layer)


def test_mean_and_variance_of_the_net_input():
    x = normals(500, [1, 2], [[2, 0.5], [0.5, 1]])
    row = plumbob.look(wrapped(unit([1.0, -1.0], 0.5)), x)["0", 0].row
    assert row["beta"] == pytest.approx(-0.5, abs=1e-12)
    assert row["sd"] ** 2 == pytest.approx(2.0, rel=1e-12)


def balanced(rows=20_000):
    y = (torch.arange(rows) % 2).double()[:, None]
    x = torch.randn(rows, 3, dtype=torch.float64, generator=seeded())
    return x + 10 + (y - 0.5), y


def fitted(model, x, y):
    lbfgs = torch.optim.LBFGS(
        model.parameters(), max_iter=200, line_search_fn="strong_wolfe"
    )

    def closure():
        lbfgs.zero_grad()
        loss = bce(model(x), y)
        loss.backward()
        return loss

    lbfgs.step(closure)
    return model


def test_a_bias_that_cancels_an_uncentred_input():
    x, y = balanced()
    model = fitted(wrapped(unit([0.0, 0.0, 0.0])), x, y)
    row = plumbob.look(model, x)["0", 0].row
    assert row["b"] == pytest.approx(-30, rel=0.05)
    assert abs(row["beta"]) < 0.05 < 25 < row["w_mu"]
    report = plumbob.check(model, x, stage="trained")
    assert "PB206" in {f.code for root in report.findings for f in _all(root)}
    mended = plumbob.apply(report, model)
    assert torch.allclose(mended(x), model(x), atol=1e-10)


def _all(finding):
    return (finding, *finding.consequences)


def test_the_discriminant_of_two_classes():
    """With equal priors b = -w.mu, mu the mean of both classes."""
    covariance = torch.tensor([[2, 0.5], [0.5, 1]], dtype=torch.float64)
    one, two = (torch.tensor(m, dtype=torch.float64) for m in ([3, 1], [5, 2]))
    w = torch.linalg.solve(covariance, two - one)
    model = wrapped(unit(w.tolist()))
    x = normals(400, ((one + two) / 2).tolist(), covariance.tolist())
    design.centre_bias_(model, x, sites="0")
    assert model[0].bias.item() == pytest.approx(-4.2857, abs=5e-5)


def rare(rows=10_000, rate=0.01):
    y = torch.zeros(rows, 1, dtype=torch.float64)
    y[: int(rows * rate)] = 1
    return y[torch.randperm(rows, generator=seeded())]


def test_log_odds_of_a_rare_class():
    y, loss = rare(), nn.BCEWithLogitsLoss()
    head = unit([0.0])
    features = grid(len(y))
    assert loss(head(features), y).item() == pytest.approx(0.6931, abs=1e-4)
    design.output_bias_(head, y, loss=loss)
    assert head.bias.item() == pytest.approx(-4.5951, abs=1e-4)
    assert loss(head(features), y).item() == pytest.approx(0.0560, abs=1e-4)
    with torch.no_grad():
        head.weight.fill_(1)
        assert head(features).sigmoid().mean().item() == pytest.approx(0.016, abs=5e-5)
    design.output_bias_(head, y, loss=loss, features=features)
    # the targets do not depend on the features, so the mean prediction is the rate
    with torch.no_grad():
        assert head(features).sigmoid().mean().item() == pytest.approx(0.01, rel=1e-3)
    assert head.bias.item() == pytest.approx(-5.079, abs=5e-3)


def test_a_weight_for_positives_that_balances_the_classes():
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([99.0]))
    head = unit([0.0], 3.0)
    design.output_bias_(head, rare(), loss=loss)
    assert head.bias.item() == pytest.approx(0, abs=1e-6)


def variances(view, names):
    """Return Var x, E x^2 and Var z of each layer, averaged over units."""
    for name in names:
        x, z = view[name].reading.x, view[name].reading.z
        yield x.var.mean(), (x.var + x.mean**2).mean(), (z.var + z.mean**2).mean()


@pytest.mark.parametrize(("scheme", "keeps"), [("he", 1.0), ("xavier", 0.5)])
def test_variance_through_relu_layers(scheme, keeps):
    model = mlp(*[1024] * 8)
    design.initialise_(model, scheme=scheme)
    view = plumbob.look(model, torch.randn(256, 1024, generator=seeded(9)))
    rows = list(variances(view, list(view)[:-1]))
    first, *later = [z / x for x, _, z in rows]
    assert first == pytest.approx(2 * keeps, rel=0.05)
    # z in the mean square against the variance of x alone: 2 / (1 - 1/pi) by half
    for (_x, square, z), ratio in zip(rows[1:], later, strict=True):
        assert z / square == pytest.approx(2 * keeps, rel=0.1)
        assert ratio > z / square
    assert rows[-1][2] / rows[0][2] == pytest.approx(keeps**5, rel=0.25)


def test_behind_a_relu_z_has_three_times_the_variance_of_its_input():
    """2 E x^2, where Var x is (1 - 1/pi) / 2 and E x^2 a half of the z before."""
    model = mlp(512, 2048, 2048, 2)
    view = plumbob.look(model, torch.randn(512, 512, generator=seeded(9)))
    (x, _, z), *_ = variances(view, ["2"])
    assert z / x == pytest.approx(2.934, rel=0.03)


def test_a_random_bias_adds_to_the_variance_over_nets_not_over_data():
    x = torch.randn(2000, 50, dtype=torch.float64, generator=seeded())
    model = wrapped(nn.Linear(50, 4000).double())
    with torch.no_grad():
        model[0].weight.normal_(0, (2 / 50) ** 0.5, generator=seeded(1))
        model[0].bias.zero_()
    before = plumbob.look(model, x)["0"].reading.z
    with torch.no_grad():
        model[0].bias.normal_(0, 0.7, generator=seeded(2))
    after = plumbob.look(model, x)["0"].reading.z
    np.testing.assert_allclose(after.var, before.var, rtol=1e-10)
    added = (after.var + after.mean**2).mean() - (before.var + before.mean**2).mean()
    assert added == pytest.approx(0.49, abs=0.04)


def test_firing_rate_and_entropy_of_a_gate():
    x = grid(sd=2.0)
    model = nn.Sequential(unit([1.0]), nn.ReLU(), unit([1.0]))
    design.firing_rate_(model, x, rate=0.1, by="normal")
    assert model[0].bias.item() == pytest.approx(-1.2816 * 2, abs=1e-3)
    assert plumbob.look(model, x)["0", 0].row["firing"] == pytest.approx(0.1, abs=1e-4)
    for shift, bits in ((0, 1.0), (-2, 0.631), (2, 0.631), (4, 0.157), (6, 0.015)):
        model[0].bias.data.fill_(shift)
        row = plumbob.look(model, x, keep=len(x))["0", 0].row
        assert row["entropy"] == pytest.approx(bits, abs=1e-3)
        assert row["best_bias"] == pytest.approx(0, abs=1e-3)


def classes(rows=512):
    x = torch.randn(rows, 8, generator=seeded())
    w = torch.randn(8, 3, generator=seeded(1))
    return x, (x @ w + torch.tensor([1.0, 0, -1])).argmax(1)


def trained(model, x, y, steps=1500):
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        adam.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        adam.step()
    return float(loss.detach())


def test_zero_everywhere_learns_the_prior_and_zero_at_the_end_learns_all():
    x, y = classes()
    model = mlp(8, 32, 32, 3)
    for p in model.parameters():
        p.data.zero_()
    assert "PB102" in codes({"model": model, "data": x})
    shares = torch.bincount(y).double() / len(y)
    prior = float(-(shares * shares.log()).sum())
    assert trained(model, x, y, 800) == pytest.approx(prior, abs=1e-3)
    last = mlp(8, 32, 32, 3)
    last[4].weight.data.zero_()
    assert "PB102" not in codes({"model": last, "data": x})
    assert trained(last, x, y) < 0.01


def test_eigenvalues_say_nothing_of_layers_that_differ():
    """All eigenvalues are 0, and the signal grows by 4 in every two layers."""
    ab = torch.tensor([[[0.0, 2], [0, 0]], [[0, 0], [2, 0]]])
    model = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(20)))
    for i, layer in enumerate(model):
        layer.weight.data.copy_(ab[1 - i % 2])
        assert not torch.linalg.eigvals(layer.weight).abs().any()
    x = torch.randn(64, 2, generator=seeded())
    rows = plumbob.look(model, x).table()
    sds = [max(r["sd"] for r in rows if r["site"] == str(i)) for i in range(20)]
    assert all(b / a == pytest.approx(2, rel=1e-5) for a, b in pairwise(sds))
    assert sds[-1] / float(x[:, 0].std(correction=0)) == pytest.approx(2**20, rel=1e-4)


def leftover(features, target):
    solution = torch.linalg.lstsq(features, target, driver="gelsd").solution
    return float(
        ((features @ solution - target) ** 2).mean() / target.var(correction=0)
    )


@pytest.mark.parametrize(("bias", "depth"), [(False, 1), (True, 1), (False, 2)])
def test_an_odd_wave_needs_a_bias_or_a_second_layer(bias, depth):
    angle = torch.arange(400, dtype=torch.float64) * 2 * math.pi / 400
    x = torch.stack([angle.cos(), angle.sin()], 1)
    wave = (3 * angle).cos()[:, None]
    model = mlp(2, *[300] * depth, 1).double()
    if bias:
        model[0].bias.data.normal_(generator=seeded(3))
    left = leftover(model[:-1](x).detach(), wave)
    assert (left > 0.999) if not bias and depth == 1 else (left < 1e-6)


def test_keras_counts_the_decay_twice():
    decay = design.keras_l2(0.01)
    assert decay == pytest.approx(0.02)
    keras, torchs = nn.Parameter(torch.randn(5, generator=seeded())), None
    torchs = nn.Parameter(keras.detach().clone())
    (0.01 * keras.square().sum()).backward()
    torch.optim.SGD([keras], lr=0.1).step()
    torchs.grad = torch.zeros(5)
    torch.optim.SGD([torchs], lr=0.1, weight_decay=decay).step()
    torch.testing.assert_close(keras, torchs)


def test_a_norm_of_weights_can_be_anything_for_one_function():
    model = mlp(4, 16, 2).double()
    model[0].bias.data.normal_(generator=seeded(5))
    x = torch.randn(64, 4, dtype=torch.float64, generator=seeded())
    before, given = plumbob.look(model, x), model(x).detach()
    with torch.no_grad():
        model[0].weight.mul_(10)
        model[0].bias.mul_(10)
        model[2].weight.div_(10)
    after = plumbob.look(model, x)
    torch.testing.assert_close(model(x), given, rtol=0, atol=1e-14)
    views = (before, after)
    squares = [sum(r["norm"] ** 2 for r in v["0"].table()) for v in views]
    assert squares[1] / squares[0] == pytest.approx(100)
    rates = [[r["firing"] for r in v["0"].table()] for v in views]
    assert rates[0] == rates[1]
    verdicts = [codes({"model": m, "data": x}) for m in (model, mlp(4, 16, 2).double())]
    assert not {c for c in verdicts[0] if c not in verdicts[1] | {"PB106"}}


def test_group_norm_loses_one_number_of_a_bias_per_group():
    """What is left of the output's change is rounding; a whole bias is not lost."""
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6)).double()
    model.append(nn.Flatten()).append(nn.Linear(6 * 16, 2).double())
    x = torch.randn(8, 2, 6, 6, dtype=torch.float64, generator=seeded())
    report = plumbob.check(model, x)
    (found,) = [f for f in report.findings if f.code == "PB307"]
    assert found.evidence["directions"] == 3
    assert found.evidence["error"] < 1e-14
    before = model(x).detach()
    with torch.no_grad():
        model[0].bias.add_(torch.tensor([5.0, 5, -3, -3, 1, 1]))
    torch.testing.assert_close(model(x), before, rtol=0, atol=1e-13)
    with torch.no_grad():
        model[0].bias.add_(torch.tensor([1.0, 0, 0, 0, 0, 0]))
    assert (model(x) - before).abs().max() > 0.1


@pytest.mark.parametrize(
    ("values", "clipped"),
    [
        ([math.inf, 1, 1], [math.nan, 0, 0]),
        ([math.nan, 1, 1], [math.nan] * 3),
        ([1e300, 1e300, 0], [0, 0, 0]),
    ],
)
def test_clipping_spreads_what_is_not_finite(values, clipped):
    parameter = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    parameter.grad = torch.tensor(values, dtype=torch.float64)
    nn.utils.clip_grad_norm_([parameter], 1.0)
    expected = torch.tensor(clipped, dtype=torch.float64)
    torch.testing.assert_close(parameter.grad, expected, equal_nan=True)


def test_a_hook_that_clips_so_is_told():
    model, (x, y) = mlp(8, 16, 3), classes()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def clip(made, *_):
        nn.utils.clip_grad_norm_(made.param_groups[0]["params"], 1.0)

    case = {"model": model, "data": [(x, y)], "loss": nn.CrossEntropyLoss()}
    assert "PB506" not in codes(case | {"optimizer": optimizer})
    optimizer.register_step_pre_hook(clip)
    assert "PB506" in codes(case | {"optimizer": optimizer})
