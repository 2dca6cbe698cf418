"""Small watched trainings whose loss tells of one fault, and healthy twins."""

import torch
from torch import nn

import plumbob
from netting import mlp, seeded


def trained(model, optimizer, loss, batches, *, held=None, sign=1, every=1, **options):
    """Train watched, with a known loss, and a held-out batch every 10 steps."""
    with plumbob.watch(
        model, optimizer, loss=loss, every=every, on_finding=None, **options
    ) as watch:
        for number, (x, y) in enumerate(batches):
            optimizer.zero_grad()
            value = watch.loss(model(x), y)
            (sign * value).backward()
            optimizer.step()
            if held and number % 10 == 9:
                with torch.no_grad():
                    watch.loss(model(held[0]), held[1])
    return watch


def task(count, *, size=64, classes=4, shuffled=False, seed=0):
    """Return batches of which of some directions points most along x."""
    draw = seeded(seed)
    directions = torch.randn(8, classes, generator=seeded(99))
    batches = []
    for _ in range(count):
        x = torch.randn(size, 8, generator=draw)
        y = (x @ directions).argmax(1)
        if shuffled:
            y = torch.randint(classes, (size,), generator=draw)
        batches.append((x, y))
    return batches


def sgd(model, lr=0.1, **options):
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


def net(*, outputs=4, seed=0):
    return mlp(8, 32, outputs, seed=seed)


def loss_non_finite(*, leans):
    """PB701: one batch holds NaN."""
    model, batches = net(), task(30)
    if leans:
        batches[20][0][3, 5] = torch.nan
    return trained(model, sgd(model), nn.CrossEntropyLoss(), batches)


def not_learning(*, leans):
    """PB702: first weights so small that no gradient comes through."""
    model = net()
    if leans:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1e-4)
    return trained(model, sgd(model), nn.CrossEntropyLoss(), task(40))


def oscillating_or_diverging(*, leans):
    """PB703: a learning rate above what the curvature allows, on a parabola."""
    model = mlp(8, 1)
    batches = [(x, x[:, :1]) for x, _ in task(40)]
    return trained(model, sgd(model, 1.2 if leans else 0.1), nn.MSELoss(), batches)


def overfitting_gap(*, leans):
    """PB710: few samples with wrong labels among them, learnt by heart; many."""
    batches = task(1 if leans else 80, size=96)
    if leans:
        batches[0][1][:24] = 0
        batches *= 80
    model = net()
    held = task(1, size=256, seed=1)[0]
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    return trained(model, optimizer, nn.CrossEntropyLoss(), batches, held=held)


def plateau(*, leans):
    """PB711: one unit in the middle, where the classes need more."""
    model = mlp(8, 1 if leans else 32, 4)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    return trained(model, optimizer, nn.CrossEntropyLoss(), task(1, size=128) * 100)


def ascending(*, leans):
    """PB717: backward of minus the loss."""
    model = net()
    sign = -1 if leans else 1
    return trained(model, sgd(model), nn.CrossEntropyLoss(), task(40), sign=sign)


def unfinished(*, leans):
    """PB718: a few steps that are too short; enough of them."""
    model, count = net(), 30 if leans else 100
    optimizer = torch.optim.Adam(model.parameters(), 3e-4 if leans else 0.03)
    return trained(model, optimizer, nn.CrossEntropyLoss(), task(1, size=256) * count)


def labels_unrelated(*, leans):
    """PB719: labels at random, learnt by heart; the right ones."""
    model = mlp(8, 128, 4)
    batches = task(1, size=64, shuffled=leans) * 80
    held = task(1, size=256, shuffled=leans, seed=1)[0]
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    return trained(model, optimizer, nn.CrossEntropyLoss(), batches, held=held)


HISTORY_CASES = {
    "PB701": loss_non_finite,
    "PB702": not_learning,
    "PB703": oscillating_or_diverging,
    "PB710": overfitting_gap,
    "PB711": plateau,
    "PB717": ascending,
    "PB718": unfinished,
    "PB719": labels_unrelated,
}
