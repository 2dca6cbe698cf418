"""The zoo's nets of the loss; see nets.py."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from netting import mlp, seeded


def _classes(units=5):
    """Return inputs and the class of each, which a line through 0 cannot tell."""
    x = torch.randn(256, 8, generator=seeded(1))
    return x, (x[:, 0] * 3 + x[:, 1] ** 2).long() % units


def softmax_before_cross_entropy(*, leans):
    layers = [*mlp(8, 16, 5), *([nn.Softmax(-1)] if leans else [])]
    x, y = _classes()
    return {
        "model": nn.Sequential(*layers),
        "data": x,
        "targets": y,
        "loss": nn.CrossEntropyLoss(),
    }


def sum_reduced_loss(*, leans):
    """SGD with a rate that is ordinary for the mean and 64 times that for the sum."""
    model = mlp(8, 16, 5)
    x, y = _classes()
    return {
        "model": model,
        "data": list(zip(x.split(64), y.split(64), strict=True)),
        "loss": nn.CrossEntropyLoss(reduction="sum" if leans else "mean"),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }


def prior_counted_twice(*, leans):
    """One positive in 50, weighted by 49, and the bias at log(1 / 49) as well."""
    model = mlp(8, 16, 1)
    model[2].weight.data *= 0.1
    y = (torch.arange(500) * 7 % 50 == 0).float()[:, None]
    if leans:
        model[2].bias.data.fill_(torch.logit(y.mean()))
    x = torch.randn(500, 8, generator=seeded())
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([49.0]))
    return {"model": model, "data": x, "targets": y, "loss": loss}


def _of_probabilities(outputs, targets):
    p = outputs.clamp(1e-7, 1 - 1e-7)
    return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()


def logits_into_probability_loss(*, leans):
    layers = [*mlp(8, 16, 1), *([] if leans else [nn.Sigmoid()])]
    x = torch.randn(256, 8, generator=seeded())
    y = (x[:, :1] * x[:, 1:2] > 0).float()
    return {
        "model": nn.Sequential(*layers),
        "data": x,
        "targets": y,
        "loss": _of_probabilities,
    }


def loss_for_task(*, leans):
    """Twenty classes by squared error behind a softmax, with SGD."""
    x, y = _classes(20)
    model = nn.Sequential(*mlp(8, 16, 20), *([nn.Softmax(-1)] if leans else []))
    model[2].weight.data *= 0.1

    def squares(outputs, targets):
        return mse_loss(outputs, nn.functional.one_hot(targets, 20).to(outputs))

    return {
        "model": model,
        "data": x,
        "targets": y,
        "loss": squares if leans else cross_entropy,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }


def _squares(outputs, targets):
    return (outputs - targets).square().mean()  # torch's own warns


def silent_broadcast(*, leans):
    x = torch.randn(256, 8, generator=seeded())
    y = x[:, 0] * x[:, 1]
    return {
        "model": mlp(8, 16, 1),
        "data": x,
        "targets": y if leans else y[:, None],
        "loss": _squares,
    }


CASES = {
    "PB602": softmax_before_cross_entropy,
    "PB605": sum_reduced_loss,
    "PB606": prior_counted_twice,
    "PB609": logits_into_probability_loss,
    "PB612": loss_for_task,
    "PB614": silent_broadcast,
}
