import numpy as np
import pytest
import torch

from netting import seeded
from plumbob.survey.fits import fits
from plumbob.survey.wanted import wanted


def of(x, y, units=1):
    facts = wanted(y, torch.zeros(len(y), units), None)
    return fits(x, y, facts)


def data(samples=100):
    return torch.randn(samples, 3, generator=seeded())


def test_the_affine_error_is_that_of_leaving_each_block_out():
    x = data(40).double()
    y = x @ torch.tensor([1.0, -2.0, 0.5]).double()[:, None]
    y += torch.randn(40, 1, generator=seeded(1)).double()
    found = of(x, y)
    table = np.c_[x.numpy(), np.ones(40)]
    missed = []
    for block in np.array_split(np.arange(40), 16):
        rest = np.setdiff1d(np.arange(40), block)
        best = np.linalg.lstsq(table[rest], y.numpy()[rest], rcond=None)[0]
        missed += [float((y.numpy()[i] - table[i] @ best)[0]) for i in block]
    oracle = np.mean(np.square(missed)) / y.numpy().var()
    assert found.affine == pytest.approx(oracle, rel=0.02)


def test_what_bends_is_seen_and_what_does_not_is_not():
    x = data()
    bent = of(x, x[:, :1] * x[:, 1:2])
    assert bent.smooth < 0.5 * bent.affine
    assert bent.sure > 3
    straight = of(x, x[:, :1] - x[:, 2:])
    assert straight.affine < 1e-3
    assert straight.sure < 3


def test_neighbours_of_shuffled_targets_agree_as_at_random():
    x = data(200)
    y = (x[:, :1] > 0).float()
    found = of(x, y)
    assert found.neighbour < found.luckiest < found.lucky < 1
    found = of(x, y[torch.randperm(200, generator=seeded(2))])
    assert found.neighbour > found.lucky


def test_where_nothing_can_be_said_nothing_is():
    x = data()
    assert of(x[:19], x[:19, :1]) is None
    assert of(x, torch.zeros(100, 1)) is None
    assert of(torch.ones(100, 3), x[:, :1]) is None
    assert of(x, torch.full((100, 1), float("nan"))) is None
    assert of(x[:, :1].expand(100, 1), torch.randint(3, (100,)), 3) is not None


def test_what_comes_near_in_time_is_not_taken_for_what_bends():
    walk = torch.randn(256, 12, generator=seeded()).cumsum(0)
    found = of(walk, walk.cumsum(1)[:, -1:] + torch.randn(256, 1).cumsum(0))
    assert found.sure < 3
    line = torch.linspace(-1, 1, 200)[:, None]
    assert of(line, line**2).sure > 3
