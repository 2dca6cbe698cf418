"""Glorot and Bengio's saturation, replayed and watched: which biases does it need?

    python benchmarks/saturation.py                    # the digits, 2 minutes
    python benchmarks/saturation.py --mnist FILE.npz   # with x_train, y_train

Four hidden layers of 100 units, W ~ U(+-1/sqrt(fan_in)), b = 0, SGD of 0.1, 5000
steps. Printed are the mean output of the top hidden layer (the median over seeds) after
so many steps, the accuracy at the end, the largest |b| of the output, and the step at
which PB706 told of it and warned. Biases: all trained; the output's kept at 0; none in
the whole net. Batches: samples drawn at random, or one of each class.
"""

import argparse
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import plumbob
from plumbob import Severity

STEPS = (0, 100, 500, 1000, 2000, 5000)
BIASES = ("all", "output's frozen", "none")
EACH = "one of each class"


def digits():
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels, dtype=torch.float32) / 16
    return (x - x.mean(0)) / x.std(0).clamp_min(0.05), torch.tensor(labels)


def mnist(path):
    with np.load(path) as data:
        x = torch.tensor(data["x_train"]).float().flatten(1) / 255
        y = torch.tensor(data["y_train"]).long()
    return (x - x.mean()) / x.std(), y


def net(activation, inputs, biases, seed, depth=4, width=100, classes=10):
    draw = torch.Generator().manual_seed(seed)
    parts, fan_in = [], inputs
    for out in [*[width] * depth, classes]:
        layer = nn.Linear(fan_in, out, bias=biases != "none")
        with torch.no_grad():
            layer.weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=draw)
            if layer.bias is not None:
                layer.bias.zero_()
        parts += [layer, activation()]
        fan_in = out
    if biases == "output's frozen":
        parts[-2].bias.requires_grad_(False)
    return nn.Sequential(*parts[:-1])


def drawer(y, how, seed):
    """Return a function that draws the rows of a batch."""
    draw = torch.Generator().manual_seed(seed)
    if how != EACH:
        size = int(how.split()[0])
        return lambda: torch.randint(len(y), (size,), generator=draw)
    rows = [torch.where(y == c)[0] for c in range(10)]

    def each():
        picks = [torch.randint(len(r), (1,), generator=draw) for r in rows]
        return torch.cat([r[i] for r, i in zip(rows, picks, strict=True)])

    return each


def replay(x, y, activation, biases, how, seed, every=50):
    """Return the top layer's mean outputs, the accuracy, |b|, and when it was told."""
    model = net(activation, x.shape[1], biases, seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    rows, means, told = drawer(y, how, seed), [], {}

    def note(step, finding):
        told.setdefault(finding.severity, step)

    probe = x[:2000]
    with plumbob.watch(
        model, optimizer, loss=cross_entropy, every=every, select="PB706",
        severity="info", on_finding=note,
    ) as watch:  # fmt: skip
        for step in range(STEPS[-1] + 1):
            if step in STEPS:
                with torch.no_grad():
                    means.append(float(nn.Sequential(*model[:-1])(probe).mean()))
            picked = rows()
            optimizer.zero_grad()
            watch.loss(model(x[picked]), y[picked]).backward()
            optimizer.step()
    with torch.no_grad():
        right = float((model(probe).argmax(1) == y[:2000]).float().mean())
    bias = model[-1].bias
    largest = 0.0 if bias is None else float(bias.detach().abs().max())
    return means, right, largest, told


def middle(values, form):
    known = [v for v in values if v is not None]
    return format(median(known), form) if known else "-"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    x, y = mnist(given.mnist) if given.mnist else digits()
    print(
        "| units | biases | batches |", " | ".join(f"step {s:,}" for s in STEPS), end=""
    )
    print(" | accuracy | largest output bias | told | warned |")
    print("|" + "---|" * (7 + len(STEPS)))
    cases = [(nn.Sigmoid, b, "10 at random") for b in BIASES]
    cases += [(nn.Sigmoid, "none", "200 at random")]
    cases += [(nn.Sigmoid, b, EACH) for b in BIASES[::2]]
    cases += [(nn.Tanh, b, "10 at random") for b in BIASES]
    for activation, biases, how in cases:
        runs = [
            replay(x, y, activation, biases, how, seed) for seed in range(given.seeds)
        ]
        means = [f"{median(m[i] for m, *_ in runs):.3f}" for i in range(len(STEPS))]
        right, largest = (middle([r[i] for r in runs], ".3f") for i in (1, 2))
        first = [min(told.values(), default=None) for *_, told in runs]
        warned = [told.get(Severity.WARNING) for *_, told in runs]
        cells = [activation.__name__, biases, how, *means, right, largest]
        cells += [middle(first, ".0f"), middle(warned, ".0f")]
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
