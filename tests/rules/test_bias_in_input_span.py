import pytest
import torch
from torch import nn

import plumbob
from netting import mlp, seeded
from theorems import normals


def found(x, model=None):
    model = model or mlp(x.shape[-1], 16, 2)
    return plumbob.check(model, x, select="PB311").findings


def coded(classes=4, rows=60):
    labels = torch.randint(classes, (rows,), generator=seeded())
    return nn.functional.one_hot(labels, classes).float()


@pytest.mark.parametrize(
    ("more", "columns"),
    [
        (coded(), 4),
        (coded()[:, :3], None),  # one category is left out
        (torch.full((60, 1), 3.0), 1),
        (torch.zeros(60, 1), None),
        (normals(60, 4).softmax(-1), 4),
        (1 + 1e-3 * normals(60, 1), None),
    ],
    ids=["one-hot", "dummy", "threes", "zeros", "shares", "nearly constant"],
)
def test_columns_that_add_up(more, columns):
    findings = found(torch.cat([normals(60, 5), more], 1))
    assert [f.evidence["columns"] for f in findings] == ([columns] if columns else [])
    assert [f.site for f in findings] == (["0"] if columns else [])


def test_fewer_rows_than_twice_the_columns_say_nothing():
    x = torch.cat([normals(60, 5), torch.ones(60, 1)], 1)
    assert found(x[:14])
    assert not found(x[:13])


def test_no_bias_no_finding():
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 2))
    assert not found(coded(), model)


def test_another_map_than_the_first_is_not_asked():
    model = nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1), nn.Linear(4, 2))
    assert not found(normals(60, 4), model)


class Before(nn.Module):
    """Does something to the input before a map reads it."""

    def __init__(self, how):
        super().__init__()
        self.how, self.map = how, nn.Linear(4, 3)
        self.register_buffer("mean", torch.full((4,), 0.25))

    def forward(self, x):
        return self.map(self.how(self, x)).relu()


def mutated(_, x):
    if x.sum() < 0:  # cannot be exported
        return x
    x = x.clone()
    x[:, 0] -= 1
    return x


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda m, x: x, True),
        (lambda m, x: x[:, None].expand(-1, 2, -1).clone().flatten(0, 1), True),
        (lambda m, x: x.double().float(), True),
        (lambda m, x: x - m.mean, False),
        (lambda m, x: x + 0.1 * torch.randn_like(x) if m.training else x, False),
        (lambda m, x: x / 3, False),
        (lambda m, x: x.long().float(), False),
        (lambda m, x: x.reshape(-1, 4, 4).mT.reshape(-1, 4), False),
        (lambda m, x: x.cumsum(-1), False),
        (lambda m, x: torch.cat([x, m.map(x)], -1)[:, -4:], False),
        (mutated, False),
    ],
)
def test_only_what_reads_the_input_as_it_comes(how, told):
    assert bool(found(coded(), Before(how))) is told


def test_a_map_that_is_used_elsewhere_too():
    model = Before(lambda m, x: x)
    model.map = nn.Linear(4, 4)
    assert found(coded(), model)
    model.how = lambda m, x: m.map(x).tanh()
    assert not found(coded(), model)


def test_it_is_the_same_map_after_all():
    """Of a model that takes a mean off, W + c a' and b - c are another."""
    x = coded()
    for how in (lambda m, x: x, lambda m, x: x - m.mean):
        model = Before(how)
        before = model(x)
        model.map.weight.data += 0.7
        model.map.bias.data -= 0.7
        same = torch.allclose(model(x), before, atol=1e-5)
        assert same is bool(found(x, model))
