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
