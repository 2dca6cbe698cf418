import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from probing import close, seen, squared, traced


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_gradients_equal_backward_and_leave_grad_alone():
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
    )
    model = model.double()
    model[0].bias.requires_grad_(False)
    unused = nn.Parameter(torch.zeros(2))
    model.register_parameter("unused", unused)
    x, y = torch.randn(20, 4).double(), torch.arange(20) % 3
    loss = nn.CrossEntropyLoss()
    with torch.no_grad():  # the caller's business
        probed = seen(model, (x, y), found=traced(model, x), loss=loss)
    assert all(p.grad is None for p in model.parameters())
    assert model[1].num_batches_tracked == 0
    loss(model(x), y).backward()
    for name, p in model.named_parameters():
        if not p.requires_grad:
            assert name not in probed.gradients
        elif p is unused:
            assert not probed.gradients[name].reached
        else:
            assert probed.gradients[name].reached
            close(probed.gradients[name].norm, p.grad.norm())
    close(probed.readings["3"].grad_weight, model[3].weight.grad.norm(dim=1))
    close(probed.readings["3"].grad_bias, model[3].bias.grad.abs())
    close(probed.readings["1"].grad_weight, model[1].weight.grad.abs())
    assert probed.readings["0"].grad_bias is None


def test_gradient_rows_of_a_transposed_convolution():
    model = nn.ConvTranspose1d(4, 6, 3, groups=2).double()
    x = torch.randn(5, 4, 8).double()
    found = traced(model, x)
    y = torch.randn(5, 6, 10).double()
    reading = seen(model, (x, y), found=found, loss=squared).readings["weight"]
    squared(model(x), y).backward()
    g = model.weight.grad  # (in, out / groups, places)
    rows = torch.cat([g[:2].transpose(0, 1), g[2:].transpose(0, 1)]).reshape(6, -1)
    close(reading.grad_weight, rows.norm(dim=1))


def test_nonfinite_gradients_are_counted():
    model = nn.Linear(3, 2)
    probed = seen(
        model,
        (torch.randn(4, 3), torch.zeros(4)),
        loss=lambda z, y: z[:, 0].sqrt().sum() + z[:, 1].sum(),
    )
    assert probed.gradients["weight"].nonfinite == 3
    assert probed.gradients["bias"].nonfinite == 1
    assert np.isfinite(probed.gradients["weight"].norm)


def test_gradients_are_off_on_demand_and_without_a_loss():
    model, x = nn.Linear(3, 1), torch.randn(4, 3)
    asked = seen(model, (x, x[:, :1]), loss=squared, gradients=False)
    assert asked.gradients == {}
    assert asked.loss is not None
    assert seen(model, x).gradients == {}
    assert seen(model, x).loss is None


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.fc, self.reentrant = nn.Linear(3, 3), reentrant

    def forward(self, x):
        x = x.requires_grad_()
        return checkpoint(self.fc, x, use_reentrant=self.reentrant)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_counts_once(reentrant):
    model, x = Checkpointed(reentrant), torch.randn(4, 3)
    probed = seen(model, (x, x), loss=squared)
    assert (probed.readings["fc"].z.count == 4).all()
    assert ("gradients" in probed.unseen) == reentrant
    assert bool(probed.gradients) != reentrant


class Sometimes(nn.Module):
    def __init__(self):
        super().__init__()
        self.always, self.gated = nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x):
        z = self.always(x)
        return z + self.gated(x) if x[0, 0] > 0 else z


@pytest.mark.parametrize("sign", [1, -1])
def test_a_batch_that_does_not_reach_a_parameter_counts(sign):
    model, x = Sometimes().double(), torch.rand(6, 3).double() + 1
    parts = [(sign * x[:4], x[:4, :1]), (-sign * x[4:], x[4:, :1])]
    probed = seen(model, parts, options={"loss": squared}, loss=squared)
    for a, b in parts:
        (squared(model(a), b) * len(a) / 6).backward()
    for name, p in model.named_parameters():
        close(probed.gradients[name].norm, p.grad.norm())
