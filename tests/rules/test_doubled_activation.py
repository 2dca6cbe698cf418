import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, nll_loss

from nets_inputs import doubled_activation
from netting import mlp, seeded
from plumbob.rule import findings
from plumbob.rules.doubled_activation import doubled_activation as rule
from plumbob.survey.measure import measure
from plumbob.types import Severity

INFO, WARNING = Severity.INFO, Severity.WARNING


def found(model, x=None, **given):
    x = torch.randn(16, 8, generator=seeded()) if x is None else x
    return list(findings(rule, measure(model, x, **given)))


def between(*acts):
    return nn.Sequential(nn.Linear(8, 6), *acts, nn.Linear(6, 3))


@pytest.mark.parametrize(
    ("acts", "severity"),
    [
        ((nn.Sigmoid(), nn.Sigmoid()), WARNING),
        ((nn.Sigmoid(), nn.Dropout(0.1), nn.Sigmoid()), WARNING),
        ((nn.Tanh(), nn.Tanh()), INFO),
        ((nn.ELU(), nn.ELU()), INFO),
        ((nn.ReLU(), nn.ReLU()), None),
        ((nn.ReLU(), nn.BatchNorm1d(6), nn.ReLU()), None),
        ((nn.Sigmoid(), nn.BatchNorm1d(6), nn.Sigmoid()), None),
        ((nn.ReLU(), nn.Tanh()), None),
        ((nn.Softmax(-1),), WARNING),
        ((nn.Softmax(-1), nn.Dropout(0.1)), WARNING),
        ((nn.Softmax(0),), None),
    ],
)
def test_what_is_told_of_activations_between_two_maps(acts, severity):
    told = found(between(*acts))
    assert [f.severity for f in told] == [severity] * (severity is not None)
    assert all(f.site == "0" for f in told)


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ([nn.Softmax(-1), nn.Softmax(-1)], 1),
        ([nn.Softmax(-1), nn.LogSoftmax(-1)], 1),
        ([nn.LogSoftmax(-1), nn.LogSoftmax(-1)], 0),
        ([nn.Softmax(-1)], 0),
    ],
)
def test_the_end_of_a_model(last, told):
    model = nn.Sequential(*mlp(8, 16, 3), *last)
    findings = found(model, targets=torch.arange(16) % 3, loss=nll_loss)
    assert [f.remedy.arguments["module"] for f in findings] == ["4"] * told


class Attention(nn.Module):
    """Shares by a softmax: of keys, of memory slots beside a path, of experts."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first, self.scores = nn.Linear(8, 8), nn.Linear(8, 4)
        self.memory, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        h = self.first(x)
        share = self.scores(h).softmax(-1)
        if self.kind == "beside":
            h = h + self.memory(share)
        elif self.kind == "experts":
            given = torch.stack([expert(h) for expert in self.experts], -1)
            h = (given * share[:, None]).sum(-1)
        elif self.kind == "values":
            h = share @ self.memory.weight.T @ h.T @ h
        elif self.kind == "alone":
            h = self.memory(share)
        return self.last(h)


@pytest.mark.parametrize("kind", ["beside", "experts", "alone"])
def test_a_softmax_is_told_of_only_where_all_goes_through_it(kind):
    told = found(Attention(kind))
    assert [f.site for f in told] == ["scores"] * (kind == "alone")


def test_attention_of_tokens_is_well():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert not found(model, torch.randn(3, 5, 8))


def test_the_same_map_of_an_image():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softmax(dim=1), nn.Conv2d(4, 2, 3))
    assert [f.severity for f in found(model, torch.randn(4, 1, 8, 8))] == [WARNING]


def test_what_training_has_overcome_is_info():
    case = doubled_activation(leans=True)
    case["targets"] = (case["data"][:, 0] > 0).long()
    assert [f.severity for f in findings(rule, measure(**case))] == [WARNING]
    optimizer = torch.optim.Adam(case["model"].parameters(), lr=0.1)
    for _ in range(60):
        loss = cross_entropy(case["model"](case["data"]), case["targets"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    (finding,) = findings(rule, measure(**case))
    assert finding.severity is INFO
    assert finding.evidence["learnt"] > 0.5
