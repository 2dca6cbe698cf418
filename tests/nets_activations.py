"""The zoo's nets of activations; see nets.py."""

import torch
from torch import nn

from netting import mlp, seeded


def blind_layer(*, leans):
    """Each unit of both layers is open, or shut, for all but a few inputs."""
    model = mlp(8, 16, 16, 2)
    x = torch.randn(2048, 8, generator=seeded())
    sides = 1 - 2 * (torch.arange(16) % 2)
    with torch.no_grad():
        for layer in (0, 2) if leans else ():
            z = model[: layer + 1](x)
            model[layer].bias += 2.9 * sides * z.std(0) - z.mean(0)
    return {"model": model, "data": x}


def dormant_unit(*, leans):
    model = mlp(8, 16, 16, 2, activation=nn.GELU)
    if leans:
        model[2].bias.data.fill_(-8)
    return {"model": model, "data": torch.randn(256, 8, generator=seeded())}


class Root(nn.Module):
    def forward(self, x):
        return x.sqrt()


def non_finite_activation(*, leans):
    """A root of what may be negative, or is at least 0."""
    model = mlp(4, 8, 2)
    model.insert(1, Root() if leans else nn.Softplus())
    x = torch.randn(64, 4, generator=seeded())
    y = torch.randn(64, 2, generator=seeded(1))
    return {"model": model, "data": x, "targets": y, "loss": nn.MSELoss()}


class Stream(nn.Module):
    """A residual stream with one gated branch, bias-free."""

    def __init__(self, width):
        super().__init__()
        self.embed = nn.Linear(8, width, bias=False)
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.up = nn.Linear(width, width, bias=False)
        self.down = nn.Linear(width, width, bias=False)
        self.next = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, 2, bias=False)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.down(self.up(self.norm(x)).square())
        return self.out(self.norm(self.next(x)).relu())


def implicit_bias(*, leans):
    """The squares of what is normalised sum up to a constant: a bias without one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Stream(64)
    model.up.weight.data = torch.eye(64)
    if leans:
        model.down.weight.data[5] = 50
    return {"model": model, "data": torch.randn(256, 8, generator=seeded())}


CASES = {
    "PB204": blind_layer,
    "PB208": non_finite_activation,
    "PB210": implicit_bias,
    "PB211": dormant_unit,
}
