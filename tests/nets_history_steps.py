"""The zoo's trainings whose steps lean; each returns a closed watch.

Every function takes `leans`, as those of nets.py do.
"""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

import plumbob
from netting import mlp, seeded
from watched import run

ENTROPY = nn.CrossEntropyLoss()


def batches(steps, *, size=32):
    """Yield batches of a task: which of three random directions is most along x."""
    generator = seeded()
    directions = torch.randn(8, 3, generator=seeded(1))
    for _ in range(steps):
        x = torch.randn(size, 8, generator=generator)
        yield x, (x @ directions).argmax(1)


def gradients_not_cleared(*, leans):
    model = mlp(8, 16, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with plumbob.watch(model, optimizer, every=1) as watch:
        for x, y in batches(10):
            if not leans:
                optimizer.zero_grad()
            loss = ENTROPY(model(x), y)
            loss.backward()
            optimizer.step()
            watch.step(loss)
    return watch


def update_ratio(*, leans):
    """Steps that throw a net to where it does not come back from."""
    model = mlp(8, 32, 32, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=100.0 if leans else 0.1)
    return run(model, optimizer, ENTROPY, batches(40))


def shrinking_weights(*, leans):
    model = mlp(8, 16, 16, 3)
    decay = 2.0 if leans else 0.001
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay)
    return run(model, optimizer, ENTROPY, batches(60))


def drift_of_null(*, leans):
    """A bias before batch norm."""
    model = nn.Sequential(
        nn.Linear(8, 16, bias=leans), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)
    )
    with torch.no_grad():
        for p in (model[0].weight, model[3].weight):
            p.normal_(0, 0.5, generator=seeded())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return run(model, optimizer, ENTROPY, batches(40), every=5)


def clipped_every_step(*, leans):
    model = mlp(8, 16, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    limit = 0.01 if leans else 10.0
    optimizer.register_step_pre_hook(
        lambda *_: clip_grad_norm_(model.parameters(), limit) and None
    )
    return run(model, optimizer, ENTROPY, batches(20))


def replicas_out_of_sync(*, leans):
    """What two ranks tell: the weight of one is a tenth off."""
    model = mlp(8, 16, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = run(model, optimizer, ENTROPY, batches(10))
    apart = {"0.weight": 0.1} if leans else {}
    watch.past.last = replace(watch.past.last, apart=apart)
    watch.judged = None  # so that the report judges anew
    assert watch.report
    return watch


def parameter_never_moves(*, leans):
    """The optimiser holds the parameters of a copy."""
    model = mlp(8, 16, 3)
    held = deepcopy(model) if leans else model
    optimizer = torch.optim.Adam(held.parameters(), lr=0.01)
    return run(model, optimizer, ENTROPY, batches(10))


def step_too_short(*, leans):
    model = mlp(8, 16, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4 if leans else 0.3)
    return run(model, optimizer, ENTROPY, batches(60), every=5)


HISTORY_CASES = {
    "PB704": update_ratio,
    "PB705": gradients_not_cleared,
    "PB707": shrinking_weights,
    "PB709": drift_of_null,
    "PB712": clipped_every_step,
    "PB714": replicas_out_of_sync,
    "PB715": parameter_never_moves,
    "PB716": step_too_short,
}
