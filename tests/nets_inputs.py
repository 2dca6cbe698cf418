"""The zoo's nets of inputs, targets and the last operations; see nets.py."""

import torch
from torch import nn
from torch.nn.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    mse_loss,
)

from netting import mlp, seeded


def binary(samples=64, width=8):
    """Inputs, and whether a sum of them is positive."""
    x = torch.randn(samples, width, generator=seeded())
    return x, (x[:, :3].sum(1, keepdim=True) > 0).float()


def input_scale(*, leans):
    x, y = binary()
    x = x * 1000 if leans else x
    loss = binary_cross_entropy_with_logits
    return {"model": mlp(8, 16, 1), "data": x, "targets": y, "loss": loss}


def bad_targets(*, leans):
    x, y = binary()
    if leans:
        y[3] = float("nan")
    return {"model": mlp(8, 16, 1), "data": x, "targets": y, "loss": mse_loss}


def missing_nonlinearity(*, leans):
    """Two maps in a row on a parabola, or on a line."""
    x = torch.rand(128, 2, generator=seeded()) * 2 - 1
    y = x[:, :1] ** 2 if leans else x[:, :1]
    first, _, last = mlp(2, 16, 1)
    model = nn.Sequential(first, last)
    return {"model": model, "data": x, "targets": y, "loss": mse_loss}


class Averaged(nn.Module):
    """Gives every sample the mean of the batch."""

    def forward(self, x):
        return x.mean(0, keepdim=True).expand_as(x)


def cannot_overfit_batch(*, leans):
    x, y = binary()
    model = mlp(8, 32, 1)
    model.insert(2, Averaged() if leans else nn.Identity())
    loss = binary_cross_entropy_with_logits
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    return {
        "model": model,
        "data": x,
        "targets": y,
        "loss": loss,
        "optimizer": optimizer,
    }


def softmax_over_one(*, leans):
    x, y = binary()
    last = nn.Softmax(-1) if leans else nn.Sigmoid()
    model = mlp(8, 16, 1).append(last)
    return {"model": model, "data": x, "targets": y, "loss": binary_cross_entropy}


def output_range(*, leans):
    x, y = binary()
    y = 2 * y - 1 if leans else y
    model = mlp(8, 16, 1).append(nn.Sigmoid())
    return {"model": model, "data": x, "targets": y, "loss": mse_loss}


def doubled_activation(*, leans):
    x = torch.randn(64, 8, generator=seeded())
    model = nn.Sequential(*mlp(8, 16, 4, activation=nn.Sigmoid))
    if leans:
        model.insert(2, nn.Sigmoid())
    y = torch.arange(64) % 4
    return {"model": model, "data": x, "targets": y, "loss": cross_entropy}


CASES = {
    "PB603": input_scale,
    "PB604": bad_targets,
    "PB607": missing_nonlinearity,
    "PB608": cannot_overfit_batch,
    "PB610": softmax_over_one,
    "PB611": output_range,
    "PB613": doubled_activation,
}
