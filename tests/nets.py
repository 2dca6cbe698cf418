"""The zoo: small nets with exactly one fault each, and their healthy twins.

Every function returns the keyword arguments of `plumbob.check` and takes `leans`:
True for the net that leans, False for its twin that is plumb. ZOO maps each rule's
code to its function; doctests, law tests and docs share them.
"""

from itertools import pairwise

import torch
from torch import nn


def codes(case, **options):
    """Return the codes of all findings on a case, consequences included."""
    import plumbob

    roots = plumbob.check(**case, **options).findings
    return {f.code for root in roots for f in (root, *root.consequences)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mlp(*widths, activation=nn.ReLU, seed=0):
    """Linear layers with He's normal weights and zero biases, activations between."""
    layers = []
    for fan_in, out in pairwise(widths):
        layer = nn.Linear(fan_in, out)
        with torch.no_grad():
            layer.weight.normal_(0, (2 / fan_in) ** 0.5, generator=seeded(seed))
            layer.bias.zero_()
        layers += [layer, activation()]
        seed += 1
    return nn.Sequential(*layers[:-1])


def non_finite_weight(*, leans):
    model = mlp(4, 8, 2)
    if leans:
        model[0].weight.data[1, 2] = float("nan")
    return {"model": model}


def dead_relu(*, leans):
    model = mlp(8, 16, 16, 2)
    if leans:
        model[2].bias.data.fill_(-20)
    return {"model": model, "data": torch.randn(256, 8, generator=seeded())}


def linear_relu(*, leans):
    model = mlp(8, 16, 2)
    if leans:
        model[0].bias.data.fill_(8)
    return {"model": model, "data": torch.randn(256, 8, generator=seeded())}


def saturated_unit(*, leans):
    model = mlp(8, 16, 2, activation=nn.Tanh)
    if leans:
        model[0].weight.data *= 20
    data = torch.randn(256, 8, generator=seeded())
    return {"model": model, "data": data, "stage": "init"}


def uncentred_input(*, leans):
    x = torch.randn(256, 8, generator=seeded())
    return {"model": mlp(8, 16, 2), "data": x + 3 if leans else x}


def bias_cancels_mean(*, leans):
    """The same function twice: x with its mean and b - w.mu, x centred and b = 0."""
    model = mlp(8, 16, 2)
    model[0].weight.data = model[0].weight.data.abs() + 0.5
    x = torch.randn(256, 8, generator=seeded())
    if leans:
        x += 1.5
        model[0].bias.data = -1.5 * model[0].weight.data.sum(1)
    return {"model": model, "data": x}


ZOO = {
    "PB101": non_finite_weight,
    "PB201": dead_relu,
    "PB202": linear_relu,
    "PB203": saturated_unit,
    "PB205": uncentred_input,
    "PB206": bias_cancels_mean,
}
