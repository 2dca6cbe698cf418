"""Healthy networks: ordinary models on ordinary data, on which no rule may alarm.

FAMILIES maps a name to a function of a seed that returns a `Training`. A family
leaves this set only by an issue.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss, one_hot

from nets import mlp

FAMILIES: dict[str, Callable[[int], "Training"]] = {}


@dataclass(kw_only=True)
class Training:
    """A model, the batches of one epoch, its loss (None: inside the model)."""

    model: nn.Module
    batches: list[Any]
    loss: Callable[..., Any] | None = field(default_factory=nn.CrossEntropyLoss)
    optimizer: Callable[..., torch.optim.Optimizer] = lambda p: torch.optim.Adam(
        p, lr=2e-3
    )
    epochs: int = 8
    trained_only: bool = False

    def __post_init__(self):
        self.made = self.optimizer(self.model.parameters())

    def train(self):
        self.model.train()
        for _ in range(0 if self.trained_only else self.epochs):
            for batch in self.batches:
                if isinstance(batch, dict):
                    loss = self.model(**batch).loss
                else:
                    *inputs, y = batch
                    loss = self.loss(self.model(*inputs), y)
                self.made.zero_grad()
                loss.backward()
                self.made.step()

    def case(self):
        return {
            "model": self.model,
            "data": self.batches,
            "loss": self.loss,
            "optimizer": self.made,
        }


def quick(rate):
    return lambda parameters: torch.optim.Adam(parameters, rate)


def family(function):
    FAMILIES[function.__name__] = function
    return function


@cache
def digits(kind="standard"):
    """Return x (1797, 64), y; standardised with its zero columns left at zero."""
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32) / 16
    if kind == "standard":
        x = (x - x.mean(0)) / x.std(0).clamp_min(0.05)
    return x, torch.tensor(data.target)


def batched(x, y, seed, size=64, count=12):
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    rows = order[: size * count].split(size)
    return [(x[r], y[r]) for r in rows]


def images(seed, **options):
    x, y = digits()
    return batched(x.view(-1, 1, 8, 8), y, seed, **options)


@family
def mlp_default(seed):
    layers = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    return Training(
        model=nn.Sequential(*layers, nn.Linear(64, 10)),
        batches=batched(*digits("pixels"), seed),
    )


@family
def mlp_he(seed):
    model = mlp(64, 64, 64, 64, 10, seed=10 * seed)
    return Training(model=model, batches=batched(*digits(), seed))


@family
def mlp_sgd(seed):
    return Training(
        model=mlp(64, 128, 64, 10, seed=10 * seed),
        batches=batched(*digits("pixels"), seed),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    )


@family
def adamw_plain(seed):
    return Training(
        model=mlp(64, 64, 32, 10, seed=10 * seed),
        batches=batched(*digits(), seed),
        optimizer=torch.optim.AdamW,
    )


@family
def tanh(seed):
    model = nn.Sequential(
        nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
    )
    for layer in model[::2]:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return Training(model=model, batches=batched(*digits(), seed))


@family
def sigmoid_shallow(seed):
    model = nn.Sequential(nn.Linear(64, 48), nn.Sigmoid(), nn.Linear(48, 10))
    return Training(model=model, batches=batched(*digits(), seed))


@family
def logistic(seed):
    return Training(model=nn.Linear(64, 10), batches=batched(*digits("pixels"), seed))


@family
def batch_norm(seed):
    widths = [64, 64, 64, 64, 64]
    layers = [
        part
        for a, b in pairwise(widths)
        for part in (nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU())
    ]
    return Training(
        model=nn.Sequential(*layers, nn.Linear(64, 10)),
        batches=batched(*digits(), seed),
    )


@family
def layer_norm_gelu(seed):
    blocks = [
        part
        for a, b in ((64, 96), (96, 96))
        for part in (nn.Linear(a, b), nn.LayerNorm(b), nn.GELU(), nn.Dropout(0.1))
    ]
    return Training(
        model=nn.Sequential(*blocks, nn.Linear(96, 10)),
        batches=batched(*digits(), seed),
    )


@family
def selu(seed):
    model = nn.Sequential(
        *[p for _ in range(4) for p in (nn.Linear(64, 64), nn.SELU())],
        nn.Linear(64, 10),
    )
    for layer in model[::2]:
        nn.init.normal_(layer.weight, 0, layer.in_features**-0.5)
        nn.init.zeros_(layer.bias)
    return Training(model=model, batches=batched(*digits(), seed))


@family
def cnn(seed):
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32 * 16, 10),
    )
    return Training(model=model, batches=images(seed))


@family
def depthwise_relu6(seed):
    def block(a, b):
        return [
            nn.Conv2d(a, a, 3, padding=1, groups=a, bias=False),
            nn.BatchNorm2d(a),
            nn.ReLU6(),
            nn.Conv2d(a, b, 1, bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU6(),
        ]

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        *block(16, 24),
        *block(24, 32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    return Training(model=model, batches=images(seed))


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        return (x + self.bn2(self.conv2(y))).relu()


@family
def resnet(seed):
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *[Residual(16) for _ in range(3)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    return Training(model=model, batches=images(seed))


class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.rnn = cell(8, 32, num_layers=2, batch_first=True, dropout=0.1)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


@family
def lstm(seed):
    x, y = digits()
    return Training(
        model=Recurrent(nn.LSTM), batches=batched(x.view(-1, 8, 8), y, seed)
    )


@family
def gru(seed):
    x, y = digits()
    return Training(model=Recurrent(nn.GRU), batches=batched(x.view(-1, 8, 8), y, seed))


class Encoder(nn.Module):
    def __init__(self, norm_first):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            32, 4, 64, dropout=0.1, batch_first=True, norm_first=norm_first
        )
        self.embed = nn.Linear(8, 32)
        self.place = nn.Parameter(0.02 * torch.randn(8, 32))
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.norm(self.body(self.embed(x) + self.place)).mean(1))


@family
def transformer(seed):
    x, y = digits()
    return Training(
        model=Encoder(norm_first=False), batches=batched(x.view(-1, 8, 8), y, seed)
    )


@family
def transformer_pre_norm(seed):
    x, y = digits()
    return Training(
        model=Encoder(norm_first=True), batches=batched(x.view(-1, 8, 8), y, seed)
    )


@family
def autoencoder(seed):
    x, _ = digits("pixels")
    model = nn.Sequential(
        nn.Linear(64, 48),
        nn.ReLU(),
        nn.Linear(48, 12),
        nn.Linear(12, 48),
        nn.ReLU(),
        nn.Linear(48, 64),
        nn.Sigmoid(),
    )
    return Training(model=model, batches=batched(x, x, seed), loss=nn.MSELoss())


@family
def regression(seed):
    x, y = (
        torch.tensor(a, dtype=torch.float32) for a in load_diabetes(return_X_y=True)
    )
    x, y = x / x.std(0), ((y - y.mean()) / y.std())[:, None]
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    return Training(
        model=model,
        batches=batched(x, y, seed, size=32),
        loss=nn.HuberLoss(),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.02),
    )


@family
def binary(seed):
    x, y = digits()
    return Training(
        model=mlp(64, 32, 1, seed=10 * seed),
        batches=batched(x, (y % 2)[:, None].float(), seed),
        loss=binary_cross_entropy_with_logits,
    )


@family
def multi_label(seed):
    x, y = digits()
    labels = torch.stack([y % 2, (y > 4).long(), (y % 3 == 0).long()], 1).float()
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3), nn.Sigmoid())
    return Training(model=model, batches=batched(x, labels, seed), loss=nn.BCELoss())


@family
def one_hot_mse(seed):
    x, y = digits()
    return Training(
        model=mlp(64, 48, 10, activation=nn.LeakyReLU, seed=10 * seed),
        batches=batched(x, one_hot(y, 10).float(), seed),
        loss=mse_loss,
    )
