"""The zoo: small nets with exactly one fault each, and their healthy twins.

Every function returns the keyword arguments of `plumbob.check` and takes `leans`:
True for the net that leans, False for its twin that is plumb. ZOO maps each rule's
code to its function; doctests, law tests and docs share them. Each room has a file.
"""

import torch
from torch import nn

import nets_activations
import nets_gradients
import nets_inputs
import nets_loss
import nets_optimizer
import nets_redundancy
import nets_weights
from netting import codes, mlp, seeded  # ruff: ignore[unused-import] (for doctests)


def non_finite_weight(*, leans):
    model = mlp(4, 8, 2)
    if leans:
        model[0].weight.data[1, 2] = float("nan")
    return {"model": model}


def symmetric_units(*, leans):
    model = mlp(4, 8, 2)
    if leans:
        model[0].weight.data.fill_(0.1)
    return {"model": model}


def unused_unit(*, leans):
    model = mlp(4, 8, 2)
    if leans:
        model[0].weight.data[3] = 0
    return {"model": model, "stage": "trained"}


def decayed_unit(*, leans):
    """Units 2 and 5 after a long decay without a gradient."""
    model = mlp(8, 16, 16, 2)
    if leans:
        for unit in (2, 5):
            model[2].weight.data[unit] *= 1e-3
            model[4].weight.data[:, unit] *= 1e-3
    data = torch.randn(256, 8, generator=seeded())
    return {"model": model, "data": data, "stage": "trained"}


def duplicate_units(*, leans):
    model = mlp(4, 8, 2)
    if leans:
        model[0].weight.data[5] = model[0].weight.data[1]
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


class Uses(nn.Module):
    """A layer whose parameters are used by a call (""), or in another way besides.

    A hook on the layer does not see those.
    """

    def __init__(self, model, use):
        super().__init__()
        self.first, self.rest, self.use = model[0], model[1:], use

    def forward(self, x):
        layer = self.first
        z = {
            "": lambda: layer(x),
            "linear": lambda: nn.functional.linear(x, layer.weight, layer.bias),
            "forward": lambda: layer.forward(x),
            "bias": lambda: layer(x) + layer.bias.sum(),
            "weight": lambda: layer(x) * layer.weight.norm(),
            "mode": lambda: layer.forward(x) if self.training else layer(x),
        }
        return self.rest(z[self.use]())


def bias_cancels_mean(*, leans):
    """The same function twice: x with its mean and b - w.mu, x centred and b = 0."""
    model = mlp(8, 16, 2)
    model[0].weight.data = model[0].weight.data.abs() + 0.5
    x = torch.randn(256, 8, generator=seeded())
    if leans:
        x += 1.5
        model[0].bias.data = -1.5 * model[0].weight.data.sum(1)
    return {"model": model, "data": x}


def non_finite_gradient(*, leans):
    """A root of 0: x[0] and the biases are 0, so are output and target."""
    x = torch.randn(64, 4, generator=seeded())
    y = torch.randn(64, 2, generator=seeded(1))
    x[0] = y[0] = 0
    inside = 0 if leans else 1e-6

    def loss(output, target):
        return ((output - target).square().sum(1) + inside).sqrt().mean()

    return {"model": mlp(4, 8, 2), "data": x, "targets": y, "loss": loss}


def bias_before_batch_norm(*, leans):
    conv = nn.Conv2d(2, 4, 3, bias=leans)
    model = nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(4 * 3 * 3, 2))
    return {"model": model, "data": torch.randn(16, 2, 5, 5, generator=seeded())}


class Attention(nn.Module):
    """Self-attention with one head; only its key projection may lack a bias."""

    def __init__(self, width, *, key_bias):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=key_bias)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, 2)

    def forward(self, x):
        scores = self.query(x) @ self.key(x).mT / x.shape[-1] ** 0.5
        return self.out((scores.softmax(-1) @ self.value(x)).mean(1))


def key_bias(*, leans):
    x = torch.randn(16, 5, 8, generator=seeded())
    return {"model": Attention(8, key_bias=leans), "data": x}


class Detach(nn.Module):
    def forward(self, x):
        return x.detach()


def disconnected_parameter(*, leans):
    model = mlp(4, 8, 2)
    if leans:
        model.insert(2, Detach())
    x = torch.randn(64, 4, generator=seeded())
    y = torch.randn(64, 2, generator=seeded(1))
    return {"model": model, "data": x, "targets": y, "loss": nn.MSELoss()}


def decayed_bias(*, leans):
    model = mlp(4, 8, 2)
    biases = [p for p in model.parameters() if p.ndim < 2]
    weights = [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    held = model.parameters() if leans else groups
    return {"model": model, "optimizer": torch.optim.AdamW(held)}


def forgotten_parameter(*, leans):
    model = mlp(4, 8, 2)
    held = model[:1] if leans else model
    return {"model": model, "optimizer": torch.optim.SGD(held.parameters())}


def output_bias_prior(*, leans):
    """One positive in a hundred; its twin starts at log(p / (1 - p))."""
    model = mlp(8, 16, 1)
    y = (torch.arange(500) % 100 == 0).float()[:, None]
    if not leans:
        model[2].bias.data.fill_(torch.logit(y.mean()))
    x = torch.randn(500, 8, generator=seeded())
    return {"model": model, "data": x, "targets": y, "loss": nn.BCEWithLogitsLoss()}


OWN = {
    "PB101": non_finite_weight,
    "PB102": symmetric_units,
    "PB103": unused_unit,
    "PB106": decayed_unit,
    "PB107": duplicate_units,
    "PB201": dead_relu,
    "PB202": linear_relu,
    "PB203": saturated_unit,
    "PB205": uncentred_input,
    "PB206": bias_cancels_mean,
    "PB301": bias_before_batch_norm,
    "PB303": key_bias,
    "PB403": non_finite_gradient,
    "PB405": disconnected_parameter,
    "PB501": decayed_bias,
    "PB502": forgotten_parameter,
    "PB601": output_bias_prior,
}
ZOO = dict(
    sorted(
        (
            OWN
            | nets_weights.CASES
            | nets_activations.CASES
            | nets_redundancy.CASES
            | nets_gradients.CASES
            | nets_optimizer.CASES
            | nets_inputs.CASES
            | nets_loss.CASES
        ).items()
    )
)
