"""A small task that every host trains, with and without a fault."""

import torch
from torch import nn

SITES = ["0", "2", "4"]


def net(dead=False):
    """Return a net of three layers; of a dead one no unit of the second fires."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)
    )
    if dead:
        model[2].bias.data.fill_(-30.0)
    return model


def data(samples=256, *, seed=0):
    """Return inputs of three classes, a little apart, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(samples) % 3
    centres = 2 * torch.eye(3, 8)
    return centres[y] + torch.randn(samples, 8, generator=generator), y


def codes(watch):
    """Return the codes of all findings of a watch above a note, with consequences."""
    return {
        f.code
        for root in watch.findings
        for f in (root, *root.consequences)
        if f.severity > 1
    }


def same(one, other):
    """Say whether two models have the same parameters and buffers, bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
