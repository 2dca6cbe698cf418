"""What the nets of the zoo are made with."""

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
