"""Healthy networks of less usual build. Importing this adds to `healthy.FAMILIES`."""

from itertools import pairwise
from math import sqrt

import torch
from torch import nn
from torch.nn import functional

from healthy import Training, batched, digits, family, images
from healthy_transformers import tokens


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@family
def input_batch_norm(seed):
    """Raw features far from 0, which the first layer centres."""
    x, y = digits("pixels")
    model = nn.Sequential(
        nn.BatchNorm1d(64), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10)
    )
    return Training(model=model, batches=batched(16 * x + 30, y, seed))


@family
def pool_before_relu(seed):
    """The order of the older examples: dropout of channels, pool, ReLU."""
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.Dropout2d(0.2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    return Training(model=model, batches=images(seed))


@family
def siren(seed):
    layers = []
    for i, (fan_in, out) in enumerate(pairwise([2, 48, 48])):
        layer = nn.Linear(fan_in, out)
        reach = 1 / fan_in if i == 0 else sqrt(6 / fan_in) / 30
        nn.init.uniform_(layer.weight, -reach, reach)
        layers += [layer, Apply(lambda z: torch.sin(30 * z))]
    side = torch.linspace(-1, 1, 28)
    x = torch.cartesian_prod(side, side)
    y = torch.sin(9 * x[:, :1]) * torch.cos(7 * x[:, 1:])
    return Training(
        model=nn.Sequential(*layers, nn.Linear(48, 1)),
        batches=batched(x, y, seed),
        loss=nn.MSELoss(),
        optimizer=lambda p: torch.optim.Adam(p, 1e-4),
        epochs=20,
    )


class Contrastive(nn.Module):
    """Similarities within the batch, sharpened by a learnt number."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))
        self.sharp = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        h = functional.normalize(self.body(x), dim=1)
        return h @ h.T * self.sharp.exp()


def same_class(scores, y):
    own = torch.eye(len(y), dtype=torch.bool)
    same = (y[:, None] == y) & ~own
    logs = scores.masked_fill(own, -1e9).log_softmax(1)
    return -(logs * same).sum() / same.sum()


@family
def contrastive(seed):
    return Training(
        model=Contrastive(), batches=batched(*digits(), seed), loss=same_class
    )


class TextCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(40, 24)
        self.convs = nn.ModuleList(nn.Conv1d(24, 16, k) for k in (2, 3, 4))
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(48, 4)

    def forward(self, x):
        x = self.words(x).mT
        found = [conv(x).relu().amax(2) for conv in self.convs]
        return self.head(self.drop(torch.cat(found, 1)))


@family
def text_cnn(seed):
    return Training(
        model=TextCNN(), batches=[(ids, ids[:, 0] // 10) for ids in tokens(seed)]
    )


@family
def fine_tuned_head(seed):
    """A trained body, frozen, and a new head."""
    layers = [nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(48, 10))
    Training(model=model, batches=batched(*digits(), 7)).train()
    model.requires_grad_(False)
    model[4] = nn.Linear(48, 5)
    x, y = digits()
    return Training(model=model, batches=batched(x, y // 2, seed))


@family
def rare_class_with_its_prior(seed):
    x = torch.randn(1536, 8, generator=torch.Generator().manual_seed(seed))
    y = (x[:, :1] + x[:, 1:2] > 2.9).float()
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    nn.init.normal_(model[2].weight, std=0.01)
    nn.init.constant_(model[2].bias, float(torch.logit(y.mean())))
    return Training(
        model=model,
        batches=batched(x, y, seed, size=128),
        loss=functional.binary_cross_entropy_with_logits,
    )
