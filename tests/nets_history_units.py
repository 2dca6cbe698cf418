"""Small watched trainings with one fault of the units over time, and healthy twins."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import plumbob
from netting import seeded
from watched import run


def drawn(fan_in, out, seed, **options):
    """Return a map with W ~ U(+-1/sqrt(fan_in)), and no bias to begin with."""
    layer = nn.Linear(fan_in, out, **options)
    with torch.no_grad():
        bound = fan_in**-0.5
        layer.weight.uniform_(-bound, bound, generator=seeded(seed))
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def deep(activation, *, inputs=64, classes=10, depth=4, width=100, seed=0, **options):
    """Return the net of Glorot and Bengio's section 3.1: a stack of bounded units."""
    layers = []
    for level in range(depth):
        fan_in = inputs if level == 0 else width
        layers += [drawn(fan_in, width, seed + level, **options), activation()]
    return nn.Sequential(*layers, drawn(width, classes, seed + depth, **options))


def clusters(count, size=8, classes=4, seed=0):
    """Return batches of samples of random classes, each at a place of its own."""
    draw = seeded(seed)
    places = 2 * torch.randn(classes, 8, generator=draw)
    labels = torch.randint(classes, (count, size), generator=draw)
    return [(places[y] + torch.randn(size, 8, generator=draw), y) for y in labels]


def bias_runaway(leans):
    """PB706: the top layer of a deep sigmoid net goes to 0; the tanh twin learns."""
    model = deep(nn.Sigmoid if leans else nn.Tanh, inputs=8, classes=4, width=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.7 if leans else 0.1)
    return run(model, optimizer, cross_entropy, clusters(150), every=25, asked=True)


class Mean(nn.Module):
    """The mean of a layer of ReLU units: it cannot be negative."""

    def __init__(self):
        super().__init__()
        self.fc = drawn(6, 16, 0)

    def forward(self, x):
        return self.fc(x).relu().mean(1, keepdim=True)


def dying(leans, **options):
    """PB708: targets below what ReLU units can give push them out of their range."""
    draw = seeded(1)
    level = -2.0 if leans else 2.0
    inputs = torch.randn(40, 32, 6, generator=draw)
    batches = [(x, level + 0.5 * torch.randn(32, 1, generator=draw)) for x in inputs]
    model = Mean()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return run(model, optimizer, mse_loss, batches, asked=True, **options)


def mode_slip(leans):
    """PB713: set to evaluate after the first epoch, and not back."""
    model = nn.Sequential(
        drawn(8, 16, 0), nn.BatchNorm1d(16), nn.ReLU(), drawn(16, 4, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches, held = clusters(60), clusters(1, size=32)[0]
    with plumbob.watch(model, optimizer, every=10, on_finding=None) as watch:
        for number, (x, y) in enumerate(batches):
            if number % 20 == 0:
                with torch.no_grad():
                    watch.validate(cross_entropy(model.eval()(held[0]), held[1]))
                model.train(number == 0 or not leans)
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return watch


HISTORY_CASES = {"PB706": bias_runaway, "PB708": dying, "PB713": mode_slip}
