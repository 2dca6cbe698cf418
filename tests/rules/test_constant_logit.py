import pytest
import torch
from torch import nn

import plumbob
from nets_redundancy import constant_logit
from netting import mlp
from theorems import normals

LABELS = torch.arange(64) % 4


def found(**case):
    return plumbob.check(**case, select="PB306").findings


def test_the_finding():
    case = constant_logit(leans=True)
    (finding,) = found(**case)
    assert finding.site == "2.bias"
    assert (finding.evidence["directions"], finding.evidence["elements"]) == (1, 4)


def z_loss(z, y):
    return nn.functional.cross_entropy(z, y) + 1e-2 * z.logsumexp(-1).square().mean()


def smoothed(z, y):
    return nn.functional.cross_entropy(z, y, label_smoothing=0.1)


def capped(z, y):
    return nn.functional.cross_entropy(5 * (z / 5).tanh(), y)


def one_hot_bce(z, y):
    one_hot = nn.functional.one_hot(y, 4).float()
    return nn.functional.binary_cross_entropy_with_logits(z, one_hot)


@pytest.mark.parametrize(
    ("loss", "leans"),
    [
        (nn.CrossEntropyLoss(), True),
        (smoothed, True),
        (lambda z, y: -z.log_softmax(1)[torch.arange(len(y)), y].mean(), True),
        (z_loss, False),
        (capped, False),
        (one_hot_bce, False),
    ],
    ids=["cross-entropy", "smoothed", "closure", "z-loss", "capped", "bce"],
)
def test_what_the_loss_does_not_see(loss, leans):
    case = {"model": mlp(8, 16, 4), "data": normals(64, 8), "targets": LABELS}
    findings = found(**case, loss=loss)
    assert [f.site for f in findings] == (["2.bias"] if leans else [])
    assert all("logits that are returned do" in f.cause for f in findings)


class Duelling(nn.Module):
    """Values of actions: V + A - mean A."""

    def __init__(self, *, centred):
        super().__init__()
        self.body, self.centred = nn.Linear(8, 16), centred
        self.value, self.advantage = nn.Linear(16, 1), nn.Linear(16, 4)

    def forward(self, x):
        x = self.body(x).relu()
        a = self.advantage(x)
        a = a - a.mean(-1, keepdim=True) if self.centred else a
        return self.value(x) + a


@pytest.mark.parametrize("centred", [True, False])
def test_a_duelling_head(centred):
    sites = {f.site for f in found(model=Duelling(centred=centred), data=normals(9, 8))}
    assert ("advantage.bias" in sites) is centred


class Compared(nn.Module):
    """How much better one answer is than another (Bradley and Terry)."""

    def __init__(self):
        super().__init__()
        self.reward = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x, y):
        return self.reward(x) - self.reward(y)


def test_a_reward_that_is_only_compared():
    sites = {f.site for f in found(model=Compared(), data=(normals(9, 8),) * 2)}
    assert "reward.2.bias" in sites
