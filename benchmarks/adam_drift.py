"""Where biases go that nothing sees: Adam against SGD, before and after `plumbob.fix`.

    python benchmarks/adam_drift.py adam-drift.svg     # half a minute

A small attention net learns the digits in 400 steps. Its key bias and the bias before
its batch norm change nothing and start at 0; the query bias counts. Printed are the
root mean squares of their gradients over the training and of the biases at its end,
beside what a random walk on the gradient's noise explains; what the biases of three
runs have in common; and what the drift changes in the outputs.
"""

import copy
import sys
from itertools import combinations
from math import log10, sqrt
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import plumbob
from plumbob.columns import columns

STEPS, BATCH, EPS = 400, 64, 1e-8
BIASES = {  # and the colour of its curves
    "query.bias": ("query bias", "#777"),
    "map.bias": ("bias before batch norm", "#1f6f8b"),
    "key.bias": ("key bias", "#b3541e"),
}
NULL = {"map.bias", "key.bias"}  # no output sees them
RATES = {"SGD": 0.1, "Adam": 1e-3}


class Net(nn.Module):
    """Attention over the eight rows of a digit, and a layer with a batch norm."""

    def __init__(self):
        super().__init__()
        self.rows, self.place = nn.Linear(8, 32), nn.Parameter(torch.randn(8, 32))
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.map, self.norm = nn.Linear(32, 32), nn.BatchNorm1d(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.rows(x) + self.place
        q, k, v = self.query(x), self.key(x), self.value(x)
        x = functional.scaled_dot_product_attention(q, k, v).mean(1)
        return self.head(self.norm(self.map(x)).relu())


def net():
    torch.manual_seed(0)
    model = Net()
    for name in BIASES:
        nn.init.zeros_(model.get_parameter(name))
    return model


def optimizer(kind, model):
    if kind == "SGD":
        return torch.optim.SGD(model.parameters(), RATES[kind])
    return torch.optim.Adam(model.parameters(), RATES[kind], eps=EPS)


def digits():
    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels).float().view(-1, 8, 8) / 16, torch.tensor(labels)


def size(t):
    """Return the root mean square of a tensor."""
    return float(t.detach().double().square().mean().sqrt())


def trained(model, by, *, steps=STEPS, seed=0, half=False):
    """Train a model; return its biases' sizes, step by step, and their gradients'."""
    (x, y), draw = digits(), torch.Generator().manual_seed(seed)
    x, known = x.to(model.place.dtype), dict(model.named_parameters())
    biases = {name: known[name] for name in BIASES if name in known}
    sizes = {name: [size(bias)] for name, bias in biases.items()}
    squares = dict.fromkeys(biases, 0.0)
    for _ in range(steps):
        at = torch.randint(len(x), (BATCH,), generator=draw)
        by.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = model(x[at])
        functional.cross_entropy(out.to(x.dtype), y[at]).backward()
        by.step()
        for name, bias in biases.items():
            squares[name] += size(bias.grad) ** 2 / steps
            sizes[name].append(size(bias))
    return sizes, {name: sqrt(value) for name, value in squares.items()}


def walk(kind, noise, steps=STEPS):
    """Return how far a random walk on noise of this size gets."""
    scale = noise / (noise + EPS) if kind == "Adam" else noise
    return RATES[kind] * sqrt(steps) * scale


def run(kind, *, dtype=torch.float32, **more):
    """Return a model after a training, and what was measured in it."""
    model = net().to(dtype)
    return model, *trained(model, optimizer(kind, model), **more)


def drift():
    """Return the table of gradients and biases, and the curves in float32."""
    runs = {
        "SGD": run("SGD"),
        "Adam": run("Adam"),
        "Adam, bfloat16": run("Adam", half=True),
        "Adam, float64": run("Adam", dtype=torch.float64),
    }
    rows = []
    for name, (words, _) in BIASES.items():
        for what, (_, sizes, noise) in runs.items():
            walked = f"{walk(what.partition(',')[0], noise[name]):.1e}"
            numbers = f"{noise[name]:.1e}", f"{sizes[name][-1]:.1e}"
            rows.append([words, what, *numbers, *([walked] if name in NULL else ["-"])])
    head = ("", "trained by", "gradient", "bias", "random walk")
    return columns(head, rows), {kind: runs[kind][1] for kind in RATES}


def compared():
    """Return how alike the biases of three runs are that differ in their batches."""
    ends = [dict(run("Adam", seed=seed)[0].named_parameters()) for seed in range(3)]
    rows = []
    for name, (words, _) in BIASES.items():
        pairs = combinations([end[name] for end in ends], 2)
        alike = (float(functional.cosine_similarity(*p, 0)) for p in pairs)
        rows.append([words, *(f"{cosine:+.2f}" for cosine in alike)])
    return columns(("cosine of runs", "0, 1", "0, 2", "1, 2"), rows)


def after():
    """Return what is left after fix, and what the drift had changed."""
    model = net()
    adam, (x, _) = optimizer("Adam", model), digits()
    trained(model, adam)
    (fixed, by), proof = plumbob.fix(model, x[:64], goal="training", optimizer=adam)
    trained(fixed, by, seed=1)
    names = [words for name, (words, _) in BIASES.items() if _has(fixed, name)]
    with torch.no_grad():
        model.eval()
        out, exact = model(x), copy.deepcopy(model).double()(x.double())
        nn.init.zeros_(model.key.bias)
        own, moved = size(out - exact) / size(exact), size(model(x) - out) / size(out)
    return f"""{proof}

{STEPS} more steps of the fixed model: there is {" and ".join(names)}
the key bias set to 0 changes the outputs by {moved:.1e}, where they round by {own:.1e}
"""


def _has(model, name):
    return name in dict(model.named_parameters())


WIDE, HIGH, LEFT, TOP, LOW = 420, 240, 60, 50, -10  # the axis begins at 1e-10


LIFTS = {"query.bias": -6, "key.bias": 14}  # of words beside curves


def picture(curves):
    """Return the sizes over the steps as SVG: Adam's, and SGD's dashed."""

    def y(value):
        return f"{HIGH * log10(value) / LOW:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE + 240} '
        f'{HIGH + 90}" width="{WIDE + 240}" font-family="sans-serif" font-size="12" '
        'fill="#333">',
        f'<rect width="{WIDE + 240}" height="{HIGH + 90}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24">size of a bias by step; solid: Adam, dashed: SGD; '
        "float32</text>",
        f'<g transform="translate({LEFT} {TOP})">',
    ]
    for power in range(LOW, 1, 2):
        at = y(10.0**power)
        parts.append(f'<path d="M0 {at}h{WIDE}" stroke="#ddd"/>')
        parts.append(f'<text x="-8" y="{at}" dy="4" text-anchor="end">1e{power}</text>')
    for step in (0, STEPS // 2, STEPS):
        place = f'x="{WIDE * step / STEPS:.0f}" y="{HIGH + 18}" text-anchor="middle"'
        parts.append(f"<text {place}>{step}</text>")
    for kind, sizes in curves.items():
        dash = ' stroke-dasharray="5 4"' if kind == "SGD" else ""
        for name, (words, colour) in BIASES.items():
            line = " ".join(
                f"{WIDE * step / STEPS:.1f},{y(value)}"
                for step, value in enumerate(sizes[name])
                if step % 4 == 1
            )
            style = f'fill="none" stroke="{colour}" stroke-width="2"{dash}'
            parts.append(f'<polyline points="{line}" {style}/>')
            lift = LIFTS.get(name, 4)
            at = f'x="{WIDE + 8}" y="{float(y(sizes[name][-1])) + lift:.0f}"'
            if (kind, name) != ("SGD", "query.bias"):  # it goes where Adam's goes
                parts.append(f'<text {at} fill="{colour}">{words}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def main(path):
    """Print the tables and draw the curves."""
    table, curves = drift()
    print(table, compared(), after(), sep="\n\n")
    Path(path).write_text(picture(curves), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "adam-drift.svg")
