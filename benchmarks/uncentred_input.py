"""Where does an uncentred input cost half as many epochs again (PB205)?

The digits and the moons, standardised, plus one constant offset on every feature, in
a ReLU net with two hidden layers of 64 and He's weights. For each offset and
optimiser the learning rate is tuned on a grid of factors of 2, and the epochs to 95 %
test accuracy are compared with those of the centred twin (median over seeds; also
at the twin's own rate). Every rate and seed trains at once in one batched product.
Run by hand: `python benchmarks/uncentred_input.py`, a few minutes.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits, make_moons

SEEDS, EPOCHS, BATCH, GOAL = 5, 30, 32, 0.95
RATES = {
    "sgd": 2.0 ** np.arange(-14, -1),
    "momentum": 2.0 ** np.arange(-17, -3),
    "adam": 2.0 ** np.arange(-13, -4),
}
OFFSETS = (0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 6)


def slowdown(x):
    """Return lambda_max of E[(x,1)(x,1)'] as the data come over that of centred x."""

    def top(x):
        one = np.hstack([x, np.ones((len(x), 1))])
        return np.linalg.eigvalsh(one.T @ one / len(x))[-1]

    return top(x) / top(x - x.mean(0))


def inputs():
    """Yield (task, name, x, y); the first of each task is the centred twin."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    live = x.std(0) > 0
    plain = (x - x.mean(0)) / np.where(live, x.std(0), 1)
    for offset in OFFSETS:
        yield "digits", f"sd 1, mean {offset}", plain + offset * live, y
    yield "digits", "pixels in [0, 1]", x / 16, y
    yield "digits", "pixels in [0, 16]", x, y
    moons, side = make_moons(1797, noise=0.1, random_state=0)
    moons = (moons - moons.mean(0)) / moons.std(0)
    for offset in (0, 1, 2, 3, 4, 6, 10, 20):
        yield "moons", f"sd 1, mean {offset}", moons + offset, side


def epochs_to_goal(x, y, optimizer, lean=lambda layers: None, bend=torch.relu):
    """Return the median over seeds of the epochs needed, for each learning rate.

    `lean` changes the initial [W1, b1, W2, b2, W3, b3], `bend` is the activation.
    """
    rates = RATES[optimizer]
    nets = len(rates) * SEEDS
    lr = torch.tensor(np.repeat(rates, SEEDS), dtype=torch.float32)[:, None, None]
    layers = []
    for fan_in, out in ((x.shape[1], 64), (64, 64), (64, int(y.max()) + 1)):
        w = (
            torch.stack([
                torch.randn(fan_in, out, generator=torch.Generator().manual_seed(s))
                for s in range(SEEDS)
            ])
            * (2 / fan_in) ** 0.5
        )
        layers += [w.repeat(len(rates), 1, 1), torch.zeros(nets, 1, out)]
    lean(layers)
    for p in layers:
        p.requires_grad_()
    state = [(torch.zeros_like(p), torch.zeros_like(p)) for p in layers]

    def forward(x):
        for i in range(0, 4, 2):
            x = bend(torch.matmul(x, layers[i]) + layers[i + 1])
        return torch.matmul(x, layers[4]) + layers[5]

    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)
    order = torch.Generator().manual_seed(0)
    needed, step = torch.full((nets,), float("inf")), 0
    for epoch in range(1, EPOCHS + 1):
        for batch in torch.randperm(1257, generator=order).split(BATCH):
            step += 1
            z = forward(x[batch])
            loss = torch.nn.functional.cross_entropy(
                z.flatten(0, 1), y[batch].repeat(nets), reduction="sum"
            ) / len(batch)
            grads = torch.autograd.grad(loss, layers)
            with torch.no_grad():
                for p, g, (m, v) in zip(layers, grads, state, strict=True):
                    p -= lr * move(optimizer, g, m, v, step)
            if step % 5 == 0:
                with torch.no_grad():
                    right = forward(x[1257:]).argmax(-1) == y[1257:]
                there = right.float().mean(-1) >= GOAL
                needed[there & needed.isinf()] = step * BATCH / 1257
        best = needed.reshape(-1, SEEDS).median(1).values.min()
        if epoch > max(3 * best, 12):
            break
    return needed.reshape(-1, SEEDS).median(1).values


def move(optimizer, g, m, v, step):
    if optimizer == "sgd":
        return g
    if optimizer == "momentum":
        return m.mul_(0.9).add_(g)
    m.mul_(0.9).add_(g, alpha=0.1)
    v.mul_(0.999).addcmul_(g, g, value=0.001)
    return m / (1 - 0.9**step) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)


def main():
    torch.set_num_threads(1)
    print("task    input             slowdown   best epochs (rate), at the twin's rate")
    twin = {}
    for task, name, x, y in inputs():
        row = f"{task:7} {name:17} {slowdown(x):8.1f}"
        for optimizer, rates in RATES.items():
            needed = epochs_to_goal(x, y, optimizer)
            best = int(needed.argmin())
            at = twin.setdefault((task, optimizer), best)
            row += (
                f"   {optimizer} {needed[best]:4.1f} (2^{np.log2(rates[best]):.0f})"
                f" {needed[at]:4.1f}"
            )
        print(row, flush=True)


if __name__ == "__main__":
    main()
