"""A small training that runs in a second, at addresses that every process finds."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

WIDTH, SAMPLES = 6, 160


def build(bias=0.0):
    model = nn.Sequential(
        nn.Linear(WIDTH, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1)
    )
    with torch.no_grad():
        model[3].bias.fill_(bias)
    return model


def loader(generator=None):
    """One sample in twenty is positive: the output's bias should be about -3."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, WIDTH, generator=draw)
    y = (x[:, :1] + 0.3 * torch.randn(SAMPLES, 1, generator=draw) > 1.7).float()
    data = TensorDataset(x, y)
    return DataLoader(data, batch_size=16, shuffle=True, generator=generator)


def loss():
    return nn.BCEWithLogitsLoss()


def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.05)


def encode_the_prior(model, optimizer):
    with torch.no_grad():
        model[3].bias.fill_(-3.0)


def mislead(model, optimizer):
    with torch.no_grad():
        model[3].bias.fill_(3.0)


def nothing(model, optimizer):
    """Draw, as an idle remedy may; change nothing."""
    torch.rand(7)


def explode(model, optimizer):
    for group in optimizer.param_groups:
        group["lr"] = 1e30


def fail(model, optimizer):
    raise ValueError("no way")


REMEDIES = {"prior": encode_the_prior, "misled": mislead, "nothing": nothing}
CASE = {"loss": loss(), "optimizer": optimizer, "steps": 24}
