"""The zoo's nets of gradients and signals; see nets.py."""

import torch
from torch import nn

from netting import mlp, seeded


def deep(activation, depth, *, gain, seed=0):
    """A net 16 wide whose maps have the gain `gain` after their activation's slope."""
    torch.manual_seed(seed)
    model = mlp(8, *[16] * depth, 3, activation=activation, seed=seed)
    for layer in model[::2]:
        layer.weight.data *= gain
    x = torch.randn(256, 8, generator=seeded(seed))
    y = (x @ torch.randn(8, 3, generator=seeded(1))).argmax(1)
    return {"model": model, "data": x, "targets": y, "loss": nn.CrossEntropyLoss()}


def init_gain(*, leans):
    """Eight ReLU layers as torch's default leaves them, with SGD; as He's does."""
    case = deep(nn.ReLU, 8, gain=6**-0.5 if leans else 1)
    optimizer = torch.optim.SGD(case["model"].parameters(), 0.1)
    return case | {"stage": "init", "optimizer": optimizer}


def signal_gain(*, leans):
    """Eight sigmoid layers; tanh in their place is plumb."""
    return deep(nn.Sigmoid if leans else nn.Tanh, 8, gain=0.7) | {"stage": "unknown"}


def vanishing_gradient(*, leans):
    """The same, of which the stage is not known."""
    return signal_gain(leans=leans)


def exploding_gradient(*, leans):
    return deep(nn.ReLU, 8, gain=2 if leans else 1) | {"stage": "unknown"}


def starved_unit(*, leans):
    """Nothing reads 4 of 16 units."""
    case = deep(nn.Tanh, 2, gain=1)
    if leans:
        case["model"][2].weight.data[:, 3:7] = 0
    return case


def bias_growth(*, leans):
    """Inputs of a hundredth of their size, with SGD."""
    case = deep(nn.ReLU, 1, gain=1)
    if leans:
        case["data"] = case["data"] / 100
    return case | {"optimizer": torch.optim.SGD(case["model"].parameters(), 0.1)}


CASES = {
    "PB104": init_gain,
    "PB207": signal_gain,
    "PB401": vanishing_gradient,
    "PB402": exploding_gradient,
    "PB404": starved_unit,
    "PB406": bias_growth,
}
