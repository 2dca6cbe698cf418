"""Healthy networks by task and loss. Importing this adds to `healthy.FAMILIES`."""

from itertools import pairwise

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn import functional

from healthy import Training, batched, digits, family, quick
from nets import mlp


def regressor(outputs, seed):
    """A network whose first answers are small, as losses in logarithms want them."""
    model = mlp(4, 64, outputs, seed=seed)
    with torch.no_grad():
        model[-1].weight.mul_(0.1)
    return model


def plane(seed, rows=768, width=4):
    """Return inputs (rows, width) and a smooth target (rows, 1) with noise."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=g)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3] / 2
    return x, y + 0.1 * torch.randn(rows, 1, generator=g)


class Duelling(nn.Module):
    """A state's worth, and what each action adds to the mean of all."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64))
        self.worth, self.adds = nn.Linear(64, 1), nn.Linear(64, 3)

    def forward(self, x):
        h = self.body(x).relu()
        adds = self.adds(h)
        return self.worth(h) + adds - adds.mean(1, keepdim=True)


def huber_of_action(q, y):
    taken = q.gather(1, y[:, :1].long())
    return functional.smooth_l1_loss(taken, y[:, 1:])


@family
def duelling_dqn(seed):
    """Rewards of one step: the action that points along the state earns most."""
    x, _ = plane(seed)
    g = torch.Generator().manual_seed(seed + 1)
    action = torch.randint(3, (768, 1), generator=g)
    reward = torch.sin(x[:, :1] + 2 * action) + x[:, 1:2] * (action - 1) / 2
    return Training(
        model=Duelling(),
        batches=batched(x, torch.cat([action, reward], 1), seed),
        loss=huber_of_action,
    )


@family
def poisson(seed):
    """Counts; the network says the logarithm of their rate."""
    x, y = plane(seed)
    g = torch.Generator().manual_seed(seed)
    counts = torch.poisson((y / 2 + 1).exp(), generator=g)
    return Training(
        model=regressor(1, seed),
        batches=batched(x, counts, seed),
        loss=nn.PoissonNLLLoss(),
        optimizer=quick(1e-2),
        epochs=15,
    )


def pinball(out, y):
    levels = torch.tensor([0.1, 0.5, 0.9])
    off = y - out
    return torch.maximum(levels * off, (levels - 1) * off).mean()


@family
def quantiles(seed):
    return Training(
        model=regressor(3, seed),
        batches=batched(*plane(seed), seed),
        loss=pinball,
        optimizer=quick(1e-2),
        epochs=15,
    )


@family
def gaussian_likelihood(seed):
    """A mean and a log variance for each input."""

    def surprise(out, y):
        mean, log_var = out.split(1, 1)
        return functional.gaussian_nll_loss(mean, y, log_var.exp())

    return Training(
        model=regressor(2, seed),
        batches=batched(*plane(seed), seed),
        loss=surprise,
        optimizer=quick(1e-2),
        epochs=15,
    )


class Ordinal(nn.Module):
    """One score and four rising thresholds: how likely the grade is above each."""

    def __init__(self):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 1))
        self.cuts = nn.Parameter(torch.tensor([-1.0, -0.3, 0.3, 1.0]))

    def forward(self, x):
        return self.score(x) - self.cuts


@family
def ordinal(seed):
    x, y = plane(seed)
    grades = (y > torch.tensor([-1.0, -0.3, 0.3, 1.0])).float()
    return Training(
        model=Ordinal(),
        batches=batched(x, grades, seed),
        loss=functional.binary_cross_entropy_with_logits,
        optimizer=quick(1e-2),
        epochs=15,
    )


@family
def label_smoothing(seed):
    return Training(
        model=mlp(64, 64, 10, seed=seed),
        batches=batched(*digits(), seed),
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
    )


@family
def class_weighted(seed):
    """A class twenty times rarer than the other, weighed up in the loss."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(1536, 8, generator=g)
    y = (x[:, 0] + x[:, 1] > 2.33).long()
    weight = len(y) / (2 * torch.bincount(y, minlength=2)).float()
    return Training(
        model=mlp(8, 32, 2, seed=seed),
        batches=batched(x, y, seed, size=128),
        loss=nn.CrossEntropyLoss(weight=weight),
    )


@family
def distillation(seed):
    """A student that learns a teacher's soft answers at temperature 3."""
    x, y = digits()
    teacher = mlp(64, 96, 10, seed=99)
    Training(model=teacher, batches=batched(x, y, 7), epochs=4).train()
    with torch.no_grad():
        soft = (teacher(x) / 3).softmax(1)

    def apart(out, p):
        logs = (out / 3).log_softmax(1)
        return 9 * functional.kl_div(logs, p, reduction="batchmean")

    return Training(
        model=mlp(64, 32, 10, seed=seed), batches=batched(x, soft, seed), loss=apart
    )


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))

    def forward(self, one, same, other):
        return self.body(one), self.body(same), self.body(other)


def triplet_loss(outputs, _):
    return functional.triplet_margin_loss(*outputs)


@family
def triplet(seed):
    x, y = digits()
    g = torch.Generator().manual_seed(seed)
    rows = [torch.nonzero(y == k)[:, 0] for k in range(10)]

    def pick(k):
        return rows[k][torch.randint(len(rows[k]), (), generator=g)]

    batches = []
    for one, k in batched(x, y, seed):
        same = torch.stack([x[pick(int(c))] for c in k])
        other = torch.stack([
            x[pick((int(c) + 1 + i % 9) % 10)] for i, c in enumerate(k)
        ])
        batches.append((one, same, other, k))
    return Training(model=Siamese(), batches=batches, loss=triplet_loss)


class Factors(nn.Module):
    """Ratings as a product of two embeddings, with a bias for each user and film."""

    def __init__(self, width=8):
        super().__init__()
        self.user, self.film = nn.Embedding(60, width), nn.Embedding(40, width)
        self.user_bias, self.film_bias = nn.Embedding(60, 1), nn.Embedding(40, 1)
        self.mean = nn.Parameter(torch.tensor([3.0]))
        for table in (self.user, self.film):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.user_bias, self.film_bias):
            nn.init.zeros_(table.weight)

    def forward(self, user, film):
        fit = (self.user(user) * self.film(film)).sum(1, keepdim=True)
        return self.mean + self.user_bias(user) + self.film_bias(film) + fit


@family
def matrix_factorisation(seed):
    g = torch.Generator().manual_seed(seed)
    taste, kind = torch.randn(60, 3, generator=g), torch.randn(40, 3, generator=g)
    user = torch.randint(60, (1536,), generator=g)
    film = torch.randint(40, (1536,), generator=g)
    stars = 3 + (taste[user] * kind[film]).sum(1, keepdim=True) / 2
    parts = (t.split(128) for t in (user, film, stars))
    return Training(
        model=Factors(),
        batches=list(zip(*parts, strict=True)),
        loss=nn.MSELoss(),
        optimizer=lambda p: torch.optim.Adam(p, 1e-2),
        epochs=15,
    )


class Highway(nn.Module):
    """Layers that at first carry their input, by a gate whose bias is negative."""

    def __init__(self, width=48, depth=4):
        super().__init__()
        self.first, self.head = nn.Linear(64, width), nn.Linear(width, 10)
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        for gate in self.gates:
            nn.init.constant_(gate.bias, -2.0)

    def forward(self, x):
        h = self.first(x)
        for layer, gate in zip(self.maps, self.gates, strict=True):
            share = gate(h).sigmoid()
            h = share * layer(h).relu() + (1 - share) * h
        return self.head(h)


@family
def highway(seed):
    return Training(model=Highway(), batches=batched(*digits(), seed))


@family
def deep_tanh_orthogonal(seed):
    widths = [64, *[48] * 10]
    layers = []
    for a, b in pairwise(widths):
        layer = nn.Linear(a, b)
        nn.init.orthogonal_(layer.weight, gain=1.05)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.Tanh()]
    return Training(
        model=nn.Sequential(*layers, nn.Linear(48, 10)),
        batches=batched(*digits(), seed),
        optimizer=lambda p: torch.optim.Adam(p, 1e-3),
    )


class ZeroBranch(nn.Module):
    """A residual block without a norm whose last map begins at 0."""

    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x):
        return x + self.down(self.up(x).relu())


@family
def zero_init_residual(seed):
    model = nn.Sequential(
        nn.Linear(64, 48), *[ZeroBranch(48) for _ in range(4)], nn.Linear(48, 10)
    )
    return Training(model=model, batches=batched(*digits(), seed))


@family
def wide_and_deep(seed):
    """Raw features of many sizes through a batch norm, beside a linear path."""

    class WideAndDeep(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.wide = nn.BatchNorm1d(10), nn.Linear(10, 1)
            self.deep = nn.Sequential(
                nn.Linear(10, 32), nn.PReLU(), nn.Dropout(0.1), nn.Linear(32, 1)
            )

        def forward(self, x):
            x = self.norm(x)
            return self.wide(x) + self.deep(x)

    x, y = (
        torch.tensor(a, dtype=torch.float32)
        for a in load_diabetes(return_X_y=True, scaled=False)
    )
    y = ((y - y.mean()) / y.std())[:, None]
    return Training(
        model=WideAndDeep(), batches=batched(x, y, seed, size=32), loss=nn.MSELoss()
    )


@family
def softplus_swish(seed):
    """Smooth activations, SGD with momentum and weight decay."""
    model = nn.Sequential(
        nn.Linear(64, 64),
        nn.SiLU(),
        nn.Linear(64, 48),
        nn.Softplus(),
        nn.LayerNorm(48),
        nn.Linear(48, 10),
    )
    return Training(
        model=model,
        batches=batched(*digits(), seed),
        optimizer=lambda p: torch.optim.SGD(
            p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-4
        ),
    )


@family
def policy(seed):
    """Two heads of one body: what to do, and what it is worth."""

    class ActorCritic(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 64), nn.Tanh())
            self.actor, self.critic = nn.Linear(64, 3), nn.Linear(64, 1)

        def forward(self, x):
            h = self.body(x)
            return self.actor(h), self.critic(h)

    def both(outputs, y):
        scores, worth = outputs
        chosen = functional.cross_entropy(scores, y[:, 0].long())
        return chosen + functional.mse_loss(worth, y[:, 1:]) / 2

    x, worth = plane(seed)
    best = (x[:, :3].argmax(1, keepdim=True)).float()
    return Training(
        model=ActorCritic(),
        batches=batched(x, torch.cat([best, worth], 1), seed),
        loss=both,
    )
