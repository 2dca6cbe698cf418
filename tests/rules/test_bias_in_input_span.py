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
