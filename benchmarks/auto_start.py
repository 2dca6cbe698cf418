"""Does `initialise_` help or harm nets that it was not developed on?

Eight nets on the 8x8 digits of scikit-learn, torch's initial values against
`initialise_(scheme="auto")`, at two rates of AdamW: 200 steps of 64, 5 paired seeds.
The nets were written after the defaults of "auto" had been set, and nothing was set
by them (docs/begin-plumb.md also tells of a first draft). Three minutes:
`python benchmarks/auto_start.py`.
"""

from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import silu
from torch.utils.data import DataLoader, TensorDataset

import plumbob
from plumbob import design
from plumbob.columns import columns

PIXELS, DIGITS = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
INK = PIXELS.float() / 16


class Mixer(nn.Module):
    """Three blocks that mix patches, then channels."""

    def __init__(self, width=32):
        super().__init__()
        self.embed, self.head = nn.Linear(4, width), nn.Linear(width, 10)
        self.tokens = nn.ModuleList([self.mlp(16, 32, width) for _ in range(3)])
        self.channels = nn.ModuleList([self.mlp(width, 64, width) for _ in range(3)])

    @staticmethod
    def mlp(width, inner, normed):
        parts = nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width)
        return nn.ModuleList([nn.LayerNorm(normed), nn.Sequential(*parts)])

    def forward(self, x):
        x = x.view(-1, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(-1, 16, 4)
        x = self.embed(x)
        for (norm, tokens), (other, channels) in zip(
            self.tokens, self.channels, strict=True
        ):
            x = x + tokens(norm(x).mT).mT
            x = x + channels(other(x))
        return self.head(x.mean(1))


class PreNorm(nn.Module):
    """A transformer over the eight rows."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(8, 32), nn.Linear(32, 10)
        self.place = nn.Parameter(torch.randn(8, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(
            32, 4, 64, 0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    def forward(self, x):
        rows = self.embed(x.view(-1, 8, 8)) + self.place
        return self.head(self.encoder(rows).mean(1))


class Recurrent(nn.Module):
    """An LSTM of two layers over the eight rows."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 48, 2, batch_first=True)
        self.head = nn.Linear(48, 10)

    def forward(self, x):
        return self.head(self.lstm(x.view(-1, 8, 8))[0][:, -1])


class Bottlenecks(nn.Module):
    """Four residual blocks of grouped convolutions with batch norms."""

    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.norm, self.head = nn.BatchNorm2d(width), nn.Linear(width, 10)
        conv = partial(nn.Conv2d, width, width, bias=False)
        self.blocks = nn.ModuleList([
            nn.Sequential(
                *(conv(1), nn.BatchNorm2d(width), nn.SiLU()),
                *(conv(3, padding=1, groups=4), nn.BatchNorm2d(width), nn.SiLU()),
                *(conv(1), nn.BatchNorm2d(width)),
            )
            for _ in range(4)
        ])

    def forward(self, x):
        x = silu(self.norm(self.stem(x.view(-1, 1, 8, 8))))
        for block in self.blocks:
            x = silu(x + block(x))
        return self.head(x.mean((2, 3)))


def stack(activation, depth=4, out=10):
    hidden = [m for _ in range(depth) for m in (nn.Linear(64, 64), activation())]
    return nn.Sequential(*hidden, nn.Linear(64, out))


def autoencoder():
    return nn.Sequential(
        *(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)),
        *(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid()),
    )


CLASSES = (nn.CrossEntropyLoss(), DIGITS)
NETS = {
    "mixer": (Mixer, *CLASSES),
    "pre-norm transformer": (PreNorm, *CLASSES),
    "LSTM": (Recurrent, *CLASSES),
    "bottlenecks, batch norm": (Bottlenecks, *CLASSES),
    "tanh, 4 layers": (partial(stack, nn.Tanh), *CLASSES),
    "GELU, 4 layers": (partial(stack, nn.GELU), *CLASSES),
    "autoencoder": (autoencoder, nn.MSELoss(), INK),
    "regression, 2 layers": (
        partial(stack, nn.ReLU, 2, 1),
        nn.MSELoss(),
        DIGITS.float()[:, None],
    ),
}


def main():
    rows = []
    for name, (build, loss, targets) in NETS.items():
        data = DataLoader(TensorDataset(INK, targets), 64, shuffle=True)

        def auto(model, optimizer, data=data, loss=loss):
            design.initialise_(model, data, loss=loss, seed=torch.initial_seed())

        for rate in (3e-4, 2e-3):
            table = plumbob.trial(
                build,
                data,
                loss=loss,
                optimizer=partial(torch.optim.AdamW, lr=rate),
                steps=200,
                seeds=5,
                remedies={"auto": auto},
            )
            (one,) = table.comparisons
            before = sum(run.loss for run in table.of("as it is")) / 5
            half = (one.loss.high - one.loss.low) / 2
            change = f"{one.loss.mean:+.3f} ± {half:.3f}"
            rows.append([name, f"{rate:g}", f"{before:.3f}", change, one.verdict])
            print(*rows[-1], sep="  ", flush=True)
    print()
    print(columns(["net", "rate", "loss", "auto", "verdict"], rows))


if __name__ == "__main__":
    main()
