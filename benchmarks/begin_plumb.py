"""What is a begun-plumb start worth (docs/begin-plumb.md)?

Four nets on the 8x8 digits of scikit-learn as ink on paper (paper is 1, ink is 0), as
torch makes them against the steps of the guide: each alone and all together, paired
over seeds. Nets, learning rates, steps and seeds were set before the first run.
Prints the tables and writes the curves: `python benchmarks/begin_plumb.py out.svg`,
twenty minutes on one core.
"""

import sys
from functools import partial
from math import log10
from pathlib import Path
from statistics import fmean

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import plumbob
from plumbob import design
from plumbob.columns import columns

SEEDS, STEPS, BATCH, DECAY = 10, 300, 64, 0.01
RATES = (3e-4, 1e-3, 3e-3)  # of AdamW
SHOWN = 1e-3  # at which each step is tried alone too, and drawn

PIXELS, DIGITS = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
PAPER = 1 - PIXELS.float() / 16
ORDER = torch.randperm(len(PAPER), generator=torch.Generator().manual_seed(0)).tolist()
VALID, TRAIN = ORDER[:360], ORDER[360:]


def deep():
    """Return ten hidden layers of ReLUs."""
    hidden = [part for _ in range(10) for part in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(64, 10))


def eight():
    """Return a small net that says whether it is an eight: one digit in ten."""
    hidden = [part for _ in range(3) for part in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(64, 1))


def conv():
    """Return four convolutions without norms."""
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(32, 10)),
    )


class Block(nn.Module):
    """Two convolutions with batch norms beside the identity."""

    def __init__(self):
        super().__init__()
        conv = partial(nn.Conv2d, 32, 32, 3, padding=1, bias=False)
        self.branch = nn.Sequential(
            conv(), nn.BatchNorm2d(32), nn.ReLU(), conv(), nn.BatchNorm2d(32)
        )

    def forward(self, x):
        """Return x plus what the branch makes of it."""
        return torch.relu(x + self.branch(x))


def normed():
    """Return a residual net with batch norms, the least in need of a good start."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        *(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.MaxPool2d(2), Block(), Block()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )


EIGHTS = (DIGITS == 8).float()[:, None]
NETS = {
    "deep": (deep, nn.CrossEntropyLoss(), DIGITS),
    "eight": (eight, nn.BCEWithLogitsLoss(), EIGHTS),
    "conv": (conv, nn.CrossEntropyLoss(), DIGITS),
    "normed": (normed, nn.CrossEntropyLoss(), DIGITS),
}


def loader(targets, rows, *, shuffle=True):
    """Return batches of these digits."""
    samples = Subset(TensorDataset(PAPER, targets), rows)
    return DataLoader(samples, batch_size=BATCH, shuffle=shuffle)


def steps_of(loss, data, rate):
    """Return the steps of the guide, as functions of a model and its optimiser."""

    def initialise(model, optimizer):
        design.initialise_(model, data, loss=loss, seed=torch.initial_seed())

    def group(model, optimizer):
        split = design.groups(model, lr=rate, weight_decay=DECAY, data=data)
        return torch.optim.AdamW(split)

    def check(model, optimizer):
        given = {"loss": loss, "optimizer": optimizer, "stage": "init"}
        report = plumbob.check(model, data, **given)
        return plumbob.apply(report, model, optimizer=optimizer, in_place=True)[1]

    return {"initialise_": initialise, "groups": group, "check and apply": check}


def in_turn(steps, model, optimizer):
    """Take the steps one after the other."""
    for step in steps.values():
        optimizer = step(model, optimizer) or optimizer
    return optimizer


def tried(name, rate):
    """Return the trial of one net at one learning rate."""
    build, loss, targets = NETS[name]
    data = loader(targets, TRAIN)
    steps = steps_of(loss, data, rate)
    return plumbob.trial(
        build,
        data,
        loss=loss,
        optimizer=partial(torch.optim.AdamW, lr=rate, weight_decay=DECAY),
        steps=STEPS,
        seeds=SEEDS,
        remedies=steps if rate == SHOWN else {"begin plumb": partial(in_turn, steps)},
        valid=loader(targets, VALID, shuffle=False),
    )


def cells(name, rate, table):
    """Return a row of text for each comparison."""
    plain = table.of("as it is")
    loss, right = (
        fmean(getattr(r, what) for r in plain) for what in ("loss", "metric")
    )
    for one in table.comparisons:
        changes = [
            f"{c.mean:+.{n}f} [{c.low:+.{n}f}, {c.high:+.{n}f}]"
            for c, n in ((one.loss, 3), (one.metric, 3), (one.steps, 0))
        ]
        start = f"{loss:.3f}", f"{right:.1%}"
        yield [name, f"{rate:g}", *start, one.arm, *changes, one.verdict]


WIDE, HIGH, LEFT, TOP, GAP = 300, 200, 60, 50, 60  # of a panel, in pixels
COLOURS = {"as it is": ("#b3541e", "plain"), "all together": ("#1f6f8b", "begun plumb")}


def panel(name, table, low, high):
    """Yield the curves of one net: the mean over seeds, and their whole spread."""

    def x(step):
        return f"{WIDE * step / STEPS:.1f}"

    def y(loss):
        return f"{HIGH * log10(high / loss) / log10(high / low):.1f}"

    yield f'<text x="0" y="-10" font-weight="bold">{name}</text>'
    for tick in (t for t in (0.01, 0.03, 0.1, 0.3, 1, 3) if low <= t <= high):
        yield f'<path d="M0 {y(tick)}h{WIDE}" stroke="#ddd"/>'
        yield f'<text x="-8" y="{y(tick)}" dy="4" text-anchor="end">{tick:g}</text>'
    for step in (0, STEPS // 2, STEPS):
        at = f'x="{x(step)}" y="{HIGH + 18}" text-anchor="middle"'
        yield f"<text {at}>{step}</text>"
    for arm, (colour, _) in COLOURS.items():
        curves = [[loss for _, loss, _ in run.curve] for run in table.of(arm)]
        steps = [step for step, *_ in table.of(arm)[0].curve]
        at = list(zip(*curves, strict=True))
        top = [f"{x(s)},{y(max(v))}" for s, v in zip(steps, at, strict=True)]
        bottom = [f"{x(s)},{y(min(v))}" for s, v in zip(steps, at, strict=True)]
        line = [f"{x(s)},{y(fmean(v))}" for s, v in zip(steps, at, strict=True)]
        band = " ".join([*top, *reversed(bottom)])
        yield f'<polygon points="{band}" fill="{colour}" opacity="0.2"/>'
        yield (
            f'<polyline points="{" ".join(line)}" fill="none" stroke="{colour}" '
            'stroke-width="2"/>'
        )


def picture(tables):
    """Return the curves of all nets as SVG."""
    every = [loss for t in tables.values() for r in t.runs for _, loss, _ in r.curve]
    low, high = min(every), max(every)
    wide, high_ = 2 * (WIDE + GAP) + 30, 2 * (HIGH + GAP) + TOP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high_}" '
        f'width="{wide}" font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{wide}" height="{high_}" fill="#fff"/>',
    ]
    for i, (colour, word) in enumerate(COLOURS.values()):
        at = LEFT + 120 * i
        parts.append(f'<path d="M{at} 14h24" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{at + 30}" y="18">{word}</text>')
    said = f"validation loss by step, AdamW at {SHOWN:g}; bands: all {SEEDS} seeds"
    parts.append(f'<text x="{LEFT + 260}" y="18">{said}</text>')
    for i, (name, table) in enumerate(tables.items()):
        across, down = LEFT + i % 2 * (WIDE + GAP), TOP + i // 2 * (HIGH + GAP)
        parts.append(f'<g transform="translate({across} {down})">')
        parts += [*panel(name, table, low, high), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def main(path):
    """Run all trials, print their tables, draw the curves."""
    head = ("net", "lr", "loss", "right", "step", "loss", "right", "steps", "verdict")
    rows, shown = [], {}
    for name in NETS:
        for rate in RATES:
            table = tried(name, rate)
            rows += cells(name, rate, table)
            if rate == SHOWN:
                shown[name] = table
            print(rows[-1], file=sys.stderr)
    print(columns(head, rows))
    Path(path).write_text(picture(shown), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "begin-plumb.svg")
