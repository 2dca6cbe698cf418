"""Small training loops that are watched, and a sink that keeps all it gets."""

import torch
from torch import nn

import plumbob


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.calls = []

    def begin(self, survey, about):
        self.calls.append(("begin", survey))

    def write(self, log):
        self.calls.append(("write", log))

    def tell(self, step, findings):
        self.calls.append(("tell", step, findings))

    def event(self, step, kind, text):
        self.calls.append(("event", kind, text))

    def close(self):
        self.calls.append(("close",))

    def of(self, kind):
        return [call[1:] for call in self.calls if call[0] == kind]


def net(width=8):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))


RULE = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, -0.5, 0]])


def batches(count, size=16):
    random = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(size, 4, generator=random)
        yield x, (x @ RULE).argmax(1)


def train(model, optimizer, loss, count=12, on_step=None, size=16):
    values = []
    for x, y in batches(count, size):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        values.append(value.item())
        if on_step:
            on_step(value)
    return values


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


def watched(model, optimizer, **options):
    options = {"every": 1, "graph": False, "on_finding": None} | options
    return plumbob.watch(model, optimizer, **options)


class Root(nn.Module):
    """Its root is of a negative number once `at` calls are over."""

    def __init__(self, at):
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, x):
        self.calls += 1
        return x + (x - 100).sqrt() if self.calls > self.at else x


def broken(at=5):
    model = net()
    return nn.Sequential(*model[:2], Root(at), model[2])
