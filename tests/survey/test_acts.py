import pytest
import torch
from torch import nn

from netting import mlp
from plumbob.survey.acts import acts
from plumbob.survey.graph import export, record


def found(model, *args, read=None, make=export):
    graph = make(model, args, {}, training=model.training)
    return acts(model, graph, read)


def test_each_activation_knows_its_map_and_its_end():
    model = mlp(4, 8, 8, 3).append(nn.Softmax(-1)).append(nn.Tanh())
    facts = found(model, torch.randn(4, 4))
    rows = [(a.name, a.site, a.module, a.before, a.ends) for a in facts.acts]
    assert rows == [
        ("relu", "0", "1", (), False),
        ("relu", "2", "3", (), False),
        ("softmax", "4", "5", (), True),
        ("tanh", "4", "6", ("softmax",), True),
    ]
    assert [a.feeds for a in facts.acts] == ["2", "4", None, None]
    assert facts.acts[0].alone
    assert (facts.maps, facts.affine) == (3, False)
    assert (facts.acts[2].size, facts.acts[2].over) == (3, "units")


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.Tanh()

    def forward(self, x):
        h = self.act(self.a(x))
        return {"plain": self.b(h), "bounded": self.act(self.b(h)), "ids": 3}


def test_a_module_that_is_used_twice_is_not_named():
    facts = found(Shared(), torch.randn(4, 4))
    assert [a.module for a in facts.acts] == [None, None]


@pytest.mark.parametrize(("read", "ends"), [(0, 0), (1, 1), (None, 0)])
def test_only_what_the_loss_reads_is_an_end(read, ends):
    facts = found(Shared(), torch.randn(4, 4), read=read)
    assert sum(a.ends for a in facts.acts) == ends


def test_a_recorded_graph_knows_no_modules():
    facts = found(mlp(4, 8, 3).append(nn.Sigmoid()), torch.randn(4, 4), make=record)
    assert [a.name for a in facts.acts] == ["relu", "sigmoid"]
    assert [a.module for a in facts.acts] == [None, None]
    assert facts.acts[1].ends


@pytest.mark.parametrize(
    ("between", "affine"),
    [
        ((), True),
        ((nn.Dropout(0.5), nn.BatchNorm1d(8)), True),
        ((nn.LayerNorm(8),), False),
        ((nn.GELU(),), False),
    ],
)
def test_what_bends_between_the_maps(between, affine):
    model = nn.Sequential(nn.Linear(4, 8), *between, nn.Linear(8, 2), nn.Sigmoid())
    facts = found(model, torch.randn(4, 4))
    assert (facts.affine, facts.maps) == (affine, 2)
