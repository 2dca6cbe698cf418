"""The output's bias that `initialise_` sets, by the user's own loss."""

from math import log

import pytest
import torch
from torch import nn

from nets import seeded
from plumbob.design import initialise_


def rows(done):
    return {row.site: row for row in done.rows}


def rare(share=0.01, samples=2000):
    x = torch.randn(samples, 16, generator=seeded())
    y = torch.zeros(samples, 1)
    y[torch.randperm(samples, generator=seeded())[: int(share * samples)]] = 1
    return x, y


@pytest.mark.parametrize("scheme", ["auto", "zero-last", "xavier"])
def test_the_first_loss_on_a_rare_class_is_the_entropy_of_its_share(scheme):
    x, y = rare()
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))
    loss = nn.BCEWithLogitsLoss()
    done = rows(initialise_(model, x, targets=y, loss=loss, scheme=scheme))
    first = float(loss(model(x), y).detach())
    entropy = -0.01 * log(0.01) - 0.99 * log(0.99)  # 0.0560
    slack = {"auto": 0.03, "zero-last": 1e-5, "xavier": 0.03}[scheme]
    assert first == pytest.approx(entropy, abs=slack)
    assert "targets' prior: loss 0." in done["2"].what
    if scheme == "zero-last":
        assert model[2].bias.item() == pytest.approx(log(0.01 / 0.99), abs=1e-3)


def test_a_class_that_does_not_occur_is_no_likelier_than_the_rarest():
    x, _ = rare()
    y = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), 2000, True, generator=seeded())
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    initialise_(model, x, targets=y, loss=nn.CrossEntropyLoss(), head=0.0)
    b = model[2].bias.detach()
    shares = y.bincount() / 2000
    assert (b[:3] - b[0]).tolist() == pytest.approx(
        (shares / shares[0]).log().tolist(), abs=1e-3
    )
    assert torch.equal(b[3], b[2])


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, x):
        return self.a(x), self.b(x)


def test_a_prior_that_cannot_be_set_is_told():
    x, y = rare(0.3)
    order = y.flatten().argsort()
    loss = nn.BCEWithLogitsLoss()
    model = nn.Sequential(nn.Linear(16, 1))
    done = rows(initialise_(model, x[order], targets=y[order], loss=loss))
    assert "prior not set: the samples come sorted" in done["0"].what
    two = Two()
    done = rows(initialise_(two, x, targets=y, loss=lambda out, t: loss(out[0], t)))
    assert "no single map" in done["output"].why
    bare = nn.Sequential(nn.Linear(16, 1, bias=False))
    done = rows(initialise_(bare, x, targets=y, loss=loss))
    assert "no bias that could hold the prior" in done["0"].what


def test_dropout_does_not_make_the_prior_depend_on_torchs_seed():
    x, y = rare(0.3)
    found = []
    for seed in (1, 2):
        model = nn.Sequential(nn.Linear(16, 8), nn.Dropout(), nn.Linear(8, 1))
        torch.manual_seed(seed)
        initialise_(model, x, targets=y, loss=nn.BCEWithLogitsLoss())
        found.append(model[2].bias.item())
    assert found[0] == found[1]
