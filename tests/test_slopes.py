import pytest
import torch

from hand import moments, normals
from plumbob.slopes import STEEP, slope
from plumbob.survey.normal import Phi


@pytest.mark.parametrize("name", [*STEEP])
@pytest.mark.parametrize("mean", [0.0, -1.5])
def test_slopes_are_those_of_torch(name, mean):
    z = normals(20_000, 1) + mean
    _, steep = Phi(name).with_slope(torch.tensor(z))
    oracle = float(steep.square().mean().sqrt())
    assert slope(name, moments(z)) == pytest.approx(oracle, rel=0.02)


def test_an_unknown_activation_lets_all_through():
    assert slope("maxout") == slope(None) == 1
