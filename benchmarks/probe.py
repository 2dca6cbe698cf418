"""How long does the probe take, in forward and backward passes?

One process-time thread; each figure is the best of several. Also: with mkldnn off,
which is why it stays on for nets without an LSTM. Run by hand:
`OMP_NUM_THREADS=1 python benchmarks/probe.py`, under a minute.
"""

import time

import torch
from torch import nn

from plumbob.survey.batches import batches
from plumbob.survey.probe import probe
from plumbob.survey.trace import export, sites

LOSS = nn.CrossEntropyLoss()


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1000, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.layers(self.embed(x)).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(64, 128), nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.lstm(x.transpose(0, 1))[0][-1])


def nets():
    yield (
        "mlp 784-512-512-10, batch 128",
        nn.Sequential(
            nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
            nn.Linear(512, 10),
        ),
        torch.randn(128, 784),
    )  # fmt: skip
    yield (
        "cnn 3-32-64-64 with batch norm, 32 images 32x32",
        nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
        ),
        torch.randn(32, 3, 32, 32),
    )  # fmt: skip
    yield (
        "transformer d 128, 4 layers, 8 x 64",
        Transformer(),
        torch.randint(1000, (8, 64)),
    )
    yield "lstm 64-128, 16 x 32 steps", Recurrent(), torch.randn(16, 32, 64)


def best(run, repeats=9):
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{'net':48} step ms  one batch  of eight  mkldnn off")
    for name, model, x in nets():
        y = torch.randint(10, (len(x),))
        found = sites(model, export(model, (x,), {}, training=True))

        def step(model=model, x=x, y=y):
            model.zero_grad()
            LOSS(model(x), y).backward()

        def measure(data, model=model, found=found):
            return probe(model, batches(model, data, loss=LOSS), found, loss=LOSS)

        bare = best(step)
        one = best(lambda x=x, y=y, measure=measure: measure((x, y)))
        eight = best(lambda x=x, y=y, measure=measure: measure([(x, y)] * 8), 3) / 8
        torch.backends.mkldnn.enabled = False
        off = best(step)
        torch.backends.mkldnn.enabled = True
        ratios = one / bare, eight / bare, off / bare
        print(f"{name:48} {bare * 1e3:7.2f}  " + "  ".join(f"{r:8.2f}" for r in ratios))


if __name__ == "__main__":
    main()
