"""The lowest points of known losses."""

from math import log

import pytest
import torch
from torch.nn import functional

from plumbob.survey.curve import Curve

CLASSES = torch.arange(40) % 3
COUNTS = torch.full((40, 1), 100.0, dtype=torch.float64)


def density(o):
    """A normal one: each sample may have its own mean, and a width ever smaller."""
    return (o[:, 1] + (o[:, 0] - 1) ** 2 / o[:, 1].exp()).mean()


@pytest.mark.parametrize(
    ("units", "loss", "expected"),
    [
        (3, lambda o: functional.cross_entropy(o, CLASSES), 0.0),
        (1, lambda o: functional.mse_loss(o, COUNTS), 0.0),
        (1, lambda o: functional.poisson_nll_loss(o, COUNTS), 100 - 100 * log(100)),
        (2, density, None),
    ],
)
def test_the_floor_is_what_each_sample_could_have(units, loss, expected):
    z = torch.randn(40, units, dtype=torch.float64)
    found = Curve(z, -1, loss).floor()
    close = None if expected is None else pytest.approx(expected, abs=1e-6)
    assert found == close


def test_a_loss_that_is_no_number_beyond_a_point_is_searched_up_to_it():
    def cliff(o):
        return torch.where(o > 1, torch.nan, (o - 1.5) ** 2).mean()

    curve = Curve(torch.full((8, 1), 0.9), 1, cliff)
    shift, low = curve.lowest()
    assert (float(shift), low) == (pytest.approx(0.1), pytest.approx(0.25))
    assert curve.floor() <= curve.height(torch.zeros(1))


def square_root(o):
    """Refuse what has no root, as a distribution refuses a negative width."""
    if bool((o < 0).any()):
        raise ValueError("below 0")
    return (o.sqrt() - 2 * o).mean()


def test_where_a_loss_refuses_it_is_infinitely_high():
    curve = Curve(torch.full((8, 1), 0.01, dtype=torch.float64), 1, square_root)
    away = torch.tensor([-1.0])
    assert curve.height(away) == float("inf")
    value, slope = curve.slope(away)
    assert value == float("inf")
    assert slope.isnan().all()


def test_the_best_shift_may_lie_at_the_end_of_what_a_loss_takes():
    def least(o):
        if bool((o < 0).any()):
            raise ValueError("below 0")
        return (o + 1).square().mean()

    z = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    curve = Curve(z, 1, least)
    shift, low = curve.lowest()
    assert float(shift) == pytest.approx(-1, abs=1e-3)
    assert low == pytest.approx((1 + 4) / 2, rel=1e-3)
    assert curve.floor() is None  # a sample at the end would hold up the other


def test_what_a_loss_raises_without_a_shift_is_raised():
    curve = Curve(torch.full((8, 1), -1.0), 1, square_root)
    with pytest.raises(ValueError, match="below 0"):
        curve.lowest()
