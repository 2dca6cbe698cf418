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


ZOO = {
    "PB101": non_finite_weight,
}
