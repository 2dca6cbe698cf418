"""Who reads whom, with the norms that `feeds` skip."""

import pytest
import torch
from torch import nn

from plumbob.paths import behind, reached, readers
from plumbob.survey.trace import export, sites
from plumbob.types import Needs, Survey


def walk(model, *shape):
    graph = export(model, (torch.randn(*shape),), {}, training=True)
    return readers(Survey(sites=sites(model, graph), known=Needs.GRAPH))


def test_norms_stand_between_maps():
    model = nn.Sequential(
        nn.Linear(4, 4),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.LayerNorm(4),
        nn.Linear(4, 4),
        nn.Linear(4, 2),
    )
    after = walk(model, 8, 4)
    assert after["0"] == ["1"]
    assert set(after["1"]) == {"3", "4"}
    assert behind("0", after) == {"1", "3", "4", "5"}
    assert reached(["0"], after, without="1") == {"0"}


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.a(x)
        return self.head(x + self.b(self.norm(x).relu()))


def test_a_path_may_lead_around_a_norm():
    after = walk(Residual(), 8, 4)
    assert set(after["a"]) == {"b", "head", "norm"}
    assert "head" in reached(["a"], after, without="norm")


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_without_parameters_hides_nothing(affine):
    model = nn.Sequential(
        nn.Linear(4, 4),
        nn.BatchNorm1d(4, affine=affine),
        nn.ReLU(),
        nn.BatchNorm1d(4),
        nn.Linear(4, 2),
    )
    assert behind("0", walk(model, 8, 4)) == {"1", "3", "4"} - (
        set() if affine else {"1"}
    )
