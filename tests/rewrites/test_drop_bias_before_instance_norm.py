"""Instance norms that keep running statistics: their mean gives the bias up."""

import pytest
import torch
from torch import nn

from fixing import mended, nothing_left, nothing_told
from theorems import normals

X = normals(4, 3, 7, 7)


def running(*between):
    torch.manual_seed(0)
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), *between, norm, nn.SiLU())
    model(X)
    return model


@pytest.mark.parametrize("goal", ["training", "inference"])
def test_the_running_mean_gives_it_up(goal):
    model = running().double().train(goal == "training")
    x, expected = X.double(), model[1].running_mean - model[0].bias
    result = mended(model, x, depth=1, goal=goal, select="PB302")
    assert result.done == {"PB302": {"0.bias"}}
    fixed = result.model
    assert fixed[0].bias is None
    torch.testing.assert_close(fixed[1].running_mean, expected, rtol=0, atol=1e-15)
    nothing_told(fixed, x, result.done)
    nothing_left(fixed, x, goal=goal, select="PB302")
    for training in (True, False):  # the first moves both running means alike
        fixed.train(training)
        model.train(training)
        torch.testing.assert_close(fixed(x), model(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("between", [nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1)])
def test_what_stands_between(between):
    assert "0.bias" not in mended(running(between), X, depth=2).done.get("PB302", ())


def test_a_norm_that_is_used_twice():
    """Its mean is one, and the two biases are not."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
            self.norm = nn.InstanceNorm2d(4, track_running_stats=True)

        def forward(self, x):
            return self.norm(self.a(x)).tanh() + self.norm(self.b(x))

    torch.manual_seed(0)
    for goal in ("training", "inference"):
        assert not mended(Twice(), X, depth=1, goal=goal, select="PB302").done
