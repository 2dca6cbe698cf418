"""What does watching cost, as a ratio to the bare step?

Each row: the CPU time of the process over some steps that are watched, over that of as
many bare steps beside them (two trainings from one seed; in turn bare, watched,
watched, bare). The median over pairs with its 95 % bootstrap interval, and the ratio of
the sums, in which rare work (judging) is not hidden. Work of other processes (W&B's)
is not counted. Tools that are not installed are left out.

Run by hand on a quiet machine:
`OMP_NUM_THREADS=1 python benchmarks/watch.py [--nets mlp ...] [--modes NAME ...]
[--pairs 30]`; all of it takes about 20 minutes.
"""

import argparse
import os
import tempfile
import time
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import torch
from torch import nn

import plumbob

WARM = 60  # steps before the first pair, which hold the burst at the start


class Block(nn.Module):
    def __init__(self, fan_in, out, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(fan_in, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out),
            nn.ReLU(), nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.skip = nn.Sequential(
            nn.Conv2d(fan_in, out, 1, stride, bias=False), nn.BatchNorm2d(out)
        )

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1000, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.layers(self.embed(x)).mean(1))


def mlp():
    model = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
        nn.Linear(512, 10),
    )  # fmt: skip
    return model, torch.optim.SGD(model.parameters(), 0.01, 0.9), torch.randn(128, 784)


def resnet():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    x = torch.randn(32, 3, 32, 32)
    return model, torch.optim.SGD(model.parameters(), 0.01, 0.9), x


def transformer():
    model = Transformer()
    x = torch.randint(1000, (8, 64))
    return model, torch.optim.AdamW(model.parameters(), 1e-4), x


NETS = {"mlp": mlp, "resnet": resnet, "transformer": transformer}


class Training:
    """A training that goes on where it was; `told` is called after each step."""

    def __init__(self, make):
        torch.manual_seed(0)
        self.model, self.optimizer, self.x = make()
        self.y = torch.randint(10, (len(self.x),))
        self.told = lambda step, loss: None
        self.taken = 0

    def steps(self, count):
        start = time.process_time()
        for _ in range(count):
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(self.x), self.y)
            loss.backward()
            self.optimizer.step()
            self.told(self.taken, loss)
            self.taken += 1
        return time.process_time() - start


# Modes: each returns what is to be called to end it.


def nothing(training):
    return lambda: None


def empty_hooks(training):
    def hook(module, args, output):
        return None

    handles = [m.register_forward_hook(hook) for m in training.model.modules()]
    return lambda: [h.remove() for h in handles]


def watched(every):
    def begin(training):
        watch = plumbob.watch(training.model, training.optimizer, every=every)
        training.told = lambda step, loss: watch.step(loss)
        return watch.close

    return begin


def naive(training):
    kept = []

    def hook(module, args, output):
        t = output.detach().float()
        kept.append([t.mean().item(), t.std().item(), t.min().item(), t.max().item()])
        kept.append(torch.histc(t, 64))

    leaves = [m for m in training.model.modules() if not any(m.children())]
    handles = [m.register_forward_hook(hook) for m in leaves]
    training.told = lambda step, loss: kept.clear()
    return lambda: [h.remove() for h in handles]


def tensorboard(every):
    def begin(training):
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(tempfile.mkdtemp())

        def told(step, loss):
            if step % every == 0:
                for name, p in training.model.named_parameters():
                    writer.add_histogram(name, p, step)
                    writer.add_histogram(name + ".grad", p.grad, step)

        training.told = told
        return writer.close

    return begin


def wandb(every):
    def begin(training):
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
        import wandb as module

        run = module.init(project="overhead", dir=tempfile.mkdtemp())
        run.watch(training.model, log="all", log_freq=every)
        training.told = lambda step, loss: run.log({"loss": loss.item()})

        def end():
            run.unwatch(training.model)
            run.finish()

        return end

    return begin


def cockpit(training):
    from backpack import extend
    from cockpit import Cockpit
    from cockpit.utils.configuration import configuration

    extend(training.model)
    loss_function = extend(nn.CrossEntropyLoss())
    single = nn.CrossEntropyLoss(reduction="none")
    tool = Cockpit(training.model.parameters(), configuration("economy"))

    def steps(count):
        start = time.process_time()
        for _ in range(count):
            training.optimizer.zero_grad()
            output = training.model(training.x)
            loss = loss_function(output, training.y)
            info = {
                "batch_size": len(training.x),
                "individual_losses": single(output, training.y),
                "loss": loss,
                "optimizer": training.optimizer,
            }
            with tool(training.taken, info=info):
                loss.backward(create_graph=tool.create_graph(training.taken))
            training.optimizer.step()
            training.taken += 1
        return time.process_time() - start

    training.steps = steps
    return lambda: None


# name: (begin, steps in a block, share of the pairs, what must be installed)
MODES = {
    "bare (A/A)": (nothing, 50, 1, ()),
    "empty hooks": (empty_hooks, 10, 1, ()),
    "plumbob every=50": (watched(50), 50, 1, ()),
    "plumbob every=1": (watched(1), 10, 1, ()),
    "naive hooks": (naive, 5, 0.5, ()),
    "TensorBoard every 1": (tensorboard(1), 3, 0.3, ("tensorboard",)),
    "TensorBoard every 50": (tensorboard(50), 50, 0.3, ("tensorboard",)),
    "wandb.watch every 1": (wandb(1), 3, 0.3, ("wandb",)),
    "wandb.watch every 10": (wandb(10), 10, 0.3, ("wandb",)),
    "wandb.watch every 1000": (wandb(1000), 20, 0.3, ("wandb",)),
    "Cockpit economy": (cockpit, 1, 0.1, ("cockpit", "backpack")),
}


@contextmanager
def begun(begin, training):
    end = begin(training)
    try:
        yield training
    finally:
        end()


def pairs(make, begin, block, count):
    """Return the times of bare and of watched blocks, side by side."""
    bare, beside = Training(make), Training(make)
    found = []
    with begun(begin, beside):
        warm = WARM if block > 3 else block
        bare.steps(warm)
        beside.steps(warm)
        for number in range(count):
            runs = [bare, beside][:: 1 if number % 2 == 0 else -1]
            times = {id(run): run.steps(block) for run in runs}
            found.append((times[id(bare)], times[id(beside)]))
    return np.array(found)


def interval(ratios):
    rng = np.random.default_rng(0)
    draws = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
    return np.quantile(draws, [0.025, 0.975])


def same_losses(make):
    """Return whether 120 losses are the same to the last bit, watched and not."""
    found = []
    for begin in (nothing, watched(50), watched(1)):
        training, losses = Training(make), []
        with begun(begin, training):
            told = training.told
            training.told = lambda step, loss, told=told, losses=losses: (
                losses.append(loss.item()),
                told(step, loss),
            )
            training.steps(120)
        found.append(losses)
    return all(one == found[0] for one in found)


def state(make):
    """Return the bytes that watching keeps on the device, and the units."""
    training = Training(make)
    watch = plumbob.watch(training.model, training.optimizer)
    training.steps(3)
    taps = [tap.state for tap in watch.stream.taps.taps.values()]
    parts = [p for _, some in watch.stream.marks.parts.values() for p in some]
    kept = [t for p in parts for t in vars(p).values() if isinstance(t, torch.Tensor)]
    rooms = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in kept}
    watch.close()
    units = sum(t.shape[1] for t in taps)
    weights = sum(p.nbytes for p in training.model.parameters())
    sizes = [sum(t.nbytes for t in taps), sum(t.nbytes() for t in rooms.values())]
    return units, sizes[0] / units, sizes[1], weights


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--pairs", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    for net in given.nets:
        make = NETS[net]
        training = Training(make)
        training.steps(5)
        bare = training.steps(20) / 20
        units, per_unit, rooms, weights = state(make)
        print(
            f"\n{net}: bare step {bare * 1e3:.1f} ms; losses the same to the last bit: "
            f"{same_losses(make)}; {per_unit:.0f} bytes for each of {units} units, "
            f"{rooms / 1e6:.1f} MB of samples beside {weights / 1e6:.1f} MB of weights"
        )
        for name in given.modes:
            begin, block, share, needs = MODES[name]
            if not all(find_spec(module) for module in needs):
                continue
            count = max(3, round(given.pairs * share))
            try:
                found = pairs(make, begin, block, count)
            except Exception as error:  # a peer that does not know the net
                print(f"  {name:24} fails: {type(error).__name__}: {error}")
                continue
            ratios = found[:, 1] / found[:, 0]
            low, high = interval(ratios)
            total = found[:, 1].sum() / found[:, 0].sum()
            print(
                f"  {name:24} {np.median(ratios):8.3f}  [{low:.3f}, {high:.3f}]  "
                f"of the sums {total:8.3f}  ({count} pairs of {block} steps)",
                flush=True,
            )


if __name__ == "__main__":
    main()
