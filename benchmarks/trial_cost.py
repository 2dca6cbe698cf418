"""What a trial costs above the trainings that it cannot do without.

    python benchmarks/trial_cost.py

The floor is a plain loop that takes the same optimiser steps on the same batches, one
for each run, and validates nowhere. Printed is the time of a trial over that floor: of
a trial whose remedies do nothing (pairing, validation, the swap of generators), and of
one that checks each seed and follows what it finds. One thread.
"""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import plumbob
from plumbob.trials.run import AS_IS

SEEDS, STEPS = 4, 400
NETS = {
    "MLP 64-256-256-10": lambda: nn.Sequential(
        nn.Linear(64, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    ),
    "CNN 16-32, batch norm": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 64, 10),
    ),
}


def loader():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1280, 64, generator=generator)
    y = torch.randint(10, (1280,), generator=generator)
    return DataLoader(TensorDataset(x, y), 64, shuffle=True)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def nothing(model, optimizer):
    """Change nothing."""


def plain(build, runs):
    """Return the seconds that bare loops take."""
    began, loss = time.perf_counter(), nn.CrossEntropyLoss()
    for seed in range(runs):
        torch.manual_seed(seed)
        model, batches, step = build(), loader(), 0
        optimizer = sgd(model)
        while step < STEPS:
            for x, y in batches:
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()
                step += 1
                if step == STEPS:
                    break
    return time.perf_counter() - began


def tried(build, **options):
    """Return the seconds that a trial takes, and its runs."""
    began = time.perf_counter()
    table = plumbob.trial(
        build,
        loader,
        loss=nn.CrossEntropyLoss(),
        optimizer=sgd,
        steps=STEPS,
        seeds=SEEDS,
        **options,
    )
    return time.perf_counter() - began, table


def dead(build):
    """Return a function that makes the net with its first biases far too low."""

    def made():
        model = build()
        first = next(m for m in model if hasattr(m, "bias") and m.bias is not None)
        nn.init.constant_(first.bias, -20.0)
        return model

    return made


def main():
    torch.set_num_threads(1)
    print(f"{STEPS} steps, {SEEDS} seeds; seconds of a bare loop, and ratios to it")
    for name, build in NETS.items():
        tried(build, remedies={"nothing": nothing})  # warms up
        bare = plain(build, 2 * SEEDS)
        idle, table = tried(build, remedies={"nothing": nothing})
        assert len(table.runs) == 2 * SEEDS
        found, table = tried(dead(build))
        runs = max(len(table.runs), 1)
        arms = ", ".join(dict.fromkeys(r.arm for r in table.runs if r.arm != AS_IS))
        print(
            f"  {name:<24} bare {bare / 2 / SEEDS:5.2f} s a run; idle remedy "
            f"{idle / bare:.2f}; with check and apply "
            f"{found / (bare / 2 / SEEDS * runs):.2f} ({arms or 'nothing found'})"
        )


if __name__ == "__main__":
    main()
