"""What do dead, linear and saturated units cost (PB201, PB202, PB203)?

The digits, standardised, in nets 64-64-64-10. Dead: the first units of the second
layer (or of both) get b = -100 at initialisation. Saturated: tanh units whose weights
are multiplied (both sides) or whose biases are moved to +-c (one side each).
Linear: ReLU units of the first layer, or of both, that never rest, on the moons. Best
epochs to 95 % test accuracy over a grid of learning rates, median over seeds. Run by
hand: `python benchmarks/leaning_units.py`, a few minutes.
"""

import numpy as np
import torch
from uncentred_input import RATES, epochs_to_goal, inputs


def dead(share, layers):
    def lean(w):
        for layer in layers:
            w[2 * layer + 1][:, :, : round(share * 64)] = -100.0

    return lean


def linear(sizes):
    def lean(w):
        for layer, size in enumerate(sizes):
            w[2 * layer + 1] += size

    return lean


def scaled(factor, layers):
    def lean(w):
        for layer in range(3):
            w[2 * layer] *= 0.5**0.5  # LeCun's variance, which suits tanh
        for layer in layers:
            w[2 * layer] *= factor

    return lean


def offset(size, layers):
    def lean(w):
        scaled(1, ())(w)
        for layer in layers:
            w[2 * layer + 1] += size * (1 - 2 * (torch.arange(64) % 2))

    return lean


def saturation(x, lean):
    """Return the share of values at slope < 5 % in layers 1 and 2 at initialisation."""
    g = torch.Generator().manual_seed(0)
    w = []
    for fan_in, out in ((64, 64), (64, 64), (64, 10)):
        w += [torch.randn(1, fan_in, out, generator=g) * (2 / fan_in) ** 0.5]
        w += [torch.zeros(1, 1, out)]
    lean(w)
    a, shares = torch.tensor(x, dtype=torch.float32), []
    for i in (0, 2):
        a = torch.tanh(a @ w[i] + w[i + 1])
        shares.append(float((1 - a**2 < 0.05).float().mean()))
    return shares


def main():
    torch.set_num_threads(1)
    tasks = {task: (x, y) for task, name, x, y in inputs() if name == "sd 1, mean 0"}
    x, y = tasks["digits"]
    cases = [("plain", dead(0, ()), torch.relu)]
    for share in (0.5, 0.75, 0.9, 0.95):
        cases.append((f"dead {share:.0%} of 2", dead(share, (1,)), torch.relu))
        cases.append((f"dead {share:.0%} of 1, 2", dead(share, (0, 1)), torch.relu))
    cases.append(("tanh", scaled(1, ()), torch.tanh))
    for factor in (2, 4, 8, 16):
        cases.append((f"W1 x {factor}", scaled(factor, (0,)), torch.tanh))
        cases.append((f"W1, W2 x {factor}", scaled(factor, (0, 1)), torch.tanh))
    for size in (2, 3, 4, 6):
        cases.append((f"b1 +-{size}", offset(size, (0,)), torch.tanh))
        cases.append((f"b1, b2 +-{size}", offset(size, (0, 1)), torch.tanh))
    for name, lean, bend in cases:
        row = f"{name:18}"
        if bend is torch.tanh:
            row += " saturated " + " ".join(f"{s:.0%}" for s in saturation(x, lean))
        print(row + epochs(x, y, lean, bend), flush=True)
    for sizes in ((0, 0), (10, 0), (10, 80)):
        row = epochs(*tasks["moons"], linear(sizes), torch.relu)
        print(f"moons, b + {sizes}".ljust(18) + row, flush=True)


def epochs(x, y, lean, bend):
    row = ""
    for optimizer in ("momentum", "adam"):
        needed = epochs_to_goal(x, y, optimizer, lean, bend)
        rate = np.log2(RATES[optimizer][int(needed.argmin())])
        row += f"   {optimizer} {needed.min():4.1f} (2^{rate:.0f})"
    return row


if __name__ == "__main__":
    main()
