"""Small models whose maps are tapped, and what their modules return in float64."""

import copy
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from plumbob.survey.modules import module_sites
from plumbob.survey.stream.units import Taps

COMPILE = partial(torch.compile, backend="aot_eager")
HOW = {"eager": lambda model: model, "compiled": COMPILE}


def taps_of(model):
    taps = Taps(model, module_sites(model))
    taps.open(True)
    return taps


def returned(model, axes, batches):
    """What the modules of a copy return, units last, in float64."""
    model = copy.deepcopy(model)
    rows = {name: [] for name in axes}

    def keep(name, module, inputs, output):
        output = output.detach().double().movedim(axes[name], -1)
        rows[name].append(output.reshape(-1, output.shape[-1]).clone())

    for name in axes:
        model.get_submodule(name).register_forward_hook(partial(keep, name))
    for batch in batches:
        model(batch)
    return {name: torch.cat(some).numpy() for name, some in rows.items()}


def check(z, rows, tolerance=1e-5):
    """Compare moments with rows of values."""
    assert (z.count == len(rows)).all()
    assert not z.nonfinite.any()
    far = tolerance * rows.std(0).max()
    np.testing.assert_allclose(z.mean, rows.mean(0), rtol=tolerance, atol=far)
    np.testing.assert_allclose(z.m2, rows.var(0) * len(rows), rtol=tolerance)
    np.testing.assert_allclose(z.low, rows.min(0), rtol=tolerance, atol=far)
    np.testing.assert_allclose(z.high, rows.max(0), rtol=tolerance, atol=far)
    assert (z.positive == (rows > 0).sum(0)).all()


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


class Images(nn.Module):
    """In-place activations behind every kind of convolution, a dictionary out."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.act = nn.ReLU(inplace=True)
        self.up = nn.ConvTranspose2d(8, 5, 2, stride=2)

    def forward(self, x):
        h = self.act(self.one(x))
        h = self.act(self.two(h).add_(h))
        return {"image": self.up(h)}


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(6, 6)
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.map(torch.tanh(self.map(x)))))


class Checkpointed(nn.Module):
    def __init__(self, reentrant=False):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.body = nn.Sequential(nn.Linear(6, 7), nn.Tanh())
        self.reentrant = reentrant

    def forward(self, x):
        x = self.first(x)
        return checkpoint(self.body, x, use_reentrant=self.reentrant)


class Texts(nn.Module):
    """A shifted embedding, norms, attention, and a tied output."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x):
        h = self.norm(self.embed(x))
        return self.out(h + self.attend(h, h, h, need_weights=False)[0])
