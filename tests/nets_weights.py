"""The zoo's nets of weights; see nets.py."""

import torch
from torch import nn

from netting import mlp, seeded


def low_precision_bias(*, leans):
    """A shift of all units alike, which the norm removes, in bfloat16."""
    model = mlp(8, 16, 2)
    model.insert(1, nn.LayerNorm(16))
    if leans:
        model[0].bias.data += 300
    x = torch.randn(256, 8, generator=seeded())
    return {"model": model.bfloat16(), "data": x.bfloat16()}


def degenerate_spectrum(*, leans):
    """One direction of the weights has outgrown all others."""
    model = mlp(32, 32, 32, 4)
    if leans:
        u, v = (torch.randn(32, generator=seeded(k)) for k in (3, 4))
        model[2].weight.data += 3 * torch.outer(u, v)
    return {"model": model, "stage": "trained"}


CASES = {"PB105": low_precision_bias, "PB108": degenerate_spectrum}
