"""Open paths against closed forms and against enumeration."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from netting import mlp, seeded
from plumbob.survey.batches import batches
from plumbob.survey.path_count import count_paths


def counted(model, x):
    before = [p.clone() for p in model.parameters()]
    paths, why = count_paths(model, next(batches(model, x)))
    assert all(map(torch.equal, before, model.parameters()))
    return paths if paths else why


def test_a_chain_is_the_product_of_open_gates():
    model = mlp(6, 12, 9, 4)
    x = torch.randn(50, 6, generator=seeded(5))
    paths = counted(model, x)
    open_ = [(model[: i + 1](x) > 0).sum(1) for i in (0, 2)]
    assert paths.active.tolist() == (6 * open_[0] * open_[1] * 4).tolist()
    assert set(paths.total.tolist()) == {6 * 12 * 9 * 4}


def test_a_bias_opens_and_shuts_paths():
    """As X17: 64-64-64-10 has 2.62e6 paths, of which a shift of b opens or shuts."""
    model = mlp(64, 64, 64, 10)
    x = torch.randn(64, 64, generator=seeded(5))
    medians = []
    for shift in (-1.0, -0.5, 0.0, 0.5):
        for layer in (0, 2):
            model[layer].bias.data.fill_(shift)
        paths = counted(model, x)
        assert set(paths.total.tolist()) == {2621440}
        medians.append(np.median(paths.active))
    assert medians == sorted(medians)
    assert medians[0] < 0.5 * medians[2]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        return x + self.b(self.a(x).relu())


def test_a_sum_adds_paths():
    """Each output: its own input, and 3 inputs through each open unit."""
    torch.manual_seed(0)
    model = Residual()
    x = torch.randn(7, 3)
    open_ = (model.a(x) > 0).sum(1)
    assert counted(model, x).active.tolist() == (3 + 3 * 3 * open_).tolist()


def test_weights_that_are_0_carry_no_path():
    model = mlp(3, 5, 2)
    model[2].weight.data[0] = 0
    model[0].weight.data[:, 1] = 0
    x = torch.randn(9, 3, generator=seeded(1))
    open_ = (model[0](x) > 0).sum(1)
    assert counted(model, x).active.tolist() == (2 * open_).tolist()


def test_convolution_and_pool_against_enumeration():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1)
    )
    x = torch.randn(5, 1, 4)
    z = model[0](x) > 0
    expected = torch.zeros(5)
    for i, c, at, tap in product(range(5), range(2), range(4), (-1, 0, 1)):
        expected[i] += bool(0 <= at + tap < 4 and z[i, c, at])
    assert counted(model, x).active.tolist() == expected.tolist()
    pooled = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 1))
    assert counted(pooled, torch.randn(3, 1, 2, 2)).active.tolist() == [1, 1, 1]
    mean = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(1, 1))
    assert counted(mean, torch.randn(3, 1, 2, 2)).active.tolist() == [4, 4, 4]


def test_in_place_gates_dropout_and_batch_norm():
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True)]
    model = nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(6, 2))
    x = torch.randn(9, 4)
    active = counted(model, x).active
    model.eval()
    open_ = (model[1](model[0](x)) > 0).sum(1)
    assert active.tolist() == (4 * open_ * 2).tolist()
    assert not model[1].num_batches_tracked


@pytest.mark.parametrize(
    "bend", [nn.GELU(), nn.Tanh(), nn.Softmax(-1), nn.LayerNorm(8)]
)
def test_what_is_not_piecewise_linear_is_told(bend):
    model = mlp(4, 8, 2)
    model.insert(1, bend)
    assert "not piecewise linear" in counted(model, torch.randn(5, 4))


def test_indices_have_no_paths():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    assert "no input" in counted(model, torch.tensor([[0, 1], [2, 3]]))
