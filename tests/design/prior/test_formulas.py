"""Each formula against the minimum of its loss, written out, in float64."""

import math

import pytest
import torch
from torch import Tensor

from bias_cases import BESIDE, CASES, FREE, D, V, rate
from plumbob.design.prior import binary, classes, focal, regression


def lowest(loss, start):
    """Minimise by L-BFGS, then Newton's method; the gauge of a softmax stays."""
    b = torch.zeros(start, dtype=D) if isinstance(start, int) else start.clone()
    b.requires_grad_()
    lbfgs = torch.optim.LBFGS(
        [b], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe"
    )

    def closure():
        lbfgs.zero_grad()
        value = loss(b).sum()
        value.backward()
        return value

    lbfgs.step(closure)
    x = b.detach()
    for _ in range(3):
        x = x.requires_grad_()
        (slope,) = torch.autograd.grad(loss(x).sum(), x)
        curve = torch.autograd.functional.hessian(lambda a: loss(a).sum(), x.detach())
        x = x.detach() - torch.linalg.pinv(curve, hermitian=True, rtol=1e-9) @ slope
    return x


def test_the_note_has_55_formulas():
    assert len(CASES) == 55


@pytest.mark.parametrize("name", [*CASES, *BESIDE])
def test_formula_is_the_minimum(name):
    loss, formula, start = (CASES | BESIDE)[name]
    found = formula()
    if isinstance(found, tuple):  # an interval of minima
        return check_interval(lambda b: float(loss(torch.tensor(b, dtype=D))), *found)
    best = lowest(loss, start)
    found = torch.as_tensor(found, dtype=D).reshape(-1)
    if name.startswith(FREE):
        best, found = best - best.mean(), found - found.mean()
    assert torch.allclose(best, found, rtol=0, atol=1e-5), (best, found)
    return None


def check_interval(height, low, high):
    low, high = float(low), float(high)
    assert height(low) == pytest.approx(height(high), abs=1e-12)
    for outside in (low - 1e-3, high + 1e-3):
        assert height(outside) > height(low) + 1e-9


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_quantile_is_the_whole_interval(level):
    y = V

    def pinball(b):
        d = y - b
        return float(torch.maximum(level * d, (level - 1) * d).mean())

    low, high = regression.quantile(y, level)
    assert low < high  # N tau is whole: an interval
    check_interval(pinball, low, high)
    point = regression.quantile(y[:-1], 0.7123)
    assert point[0] == point[1]


def test_laplace_median_and_weighted_quantile():
    low, high = regression.laplace(V)[0]
    assert low <= V.median() <= high
    twice = torch.tensor([1.0, 2, 2, 7])
    once = torch.tensor([1.0, 2, 7])
    by_weight = regression.quantile(once, 0.3, torch.tensor([1.0, 2, 1]))
    assert by_weight == regression.quantile(twice, 0.3)


def test_hinge_is_a_whole_interval_at_a_half():
    low, high = binary.hinge(0.5)
    assert (low, high) == (-1, 1)


@pytest.mark.parametrize(
    ("p", "q"), [(1e-2, 0.1084), (1e-3, 0.0504), (1e-4, 0.0231), (1e-6, 0.0049)]
)
def test_focal_of_rare_positives(p, q):
    b = focal.binary(p, gamma=2.0, alpha=0.25)
    assert b.sigmoid().item() == pytest.approx(q, abs=1e-4)
    back = focal.log_odds_of(b, gamma=2.0, alpha=0.25)
    assert back.sigmoid().item() == pytest.approx(p, rel=1e-9)


def test_a_focal_start_of_1_percent_fits_one_positive_in_118000():
    p = focal.log_odds_of(math.log(0.01 / 0.99), gamma=2.0, alpha=0.25).sigmoid()
    assert 1 / p.item() == pytest.approx(118_000, rel=0.01)


def test_absent_classes_count_a_half():
    pi = classes.shares(torch.tensor([0, 0, 2]), 3)
    assert torch.allclose(pi, torch.tensor([2, 0.5, 1], dtype=D) / 3.5)
    assert rate(torch.zeros(9)).item() == pytest.approx(0.05)
    assert isinstance(rate(torch.ones(9)), Tensor)
