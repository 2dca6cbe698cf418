"""The zoo's nets of the optimiser; see nets.py."""

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from netting import mlp, seeded


def task(*, dtype=torch.float32):
    """Which of three random directions points most along x."""
    x = torch.randn(128, 8, generator=seeded())
    y = (x @ torch.randn(8, 3, generator=seeded(1))).argmax(1)
    return {"data": x.to(dtype), "targets": y, "loss": nn.CrossEntropyLoss()}


def step_too_long(*, leans):
    model = mlp(8, 32, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=100.0 if leans else 0.1)
    return {"model": model, "optimizer": optimizer, **task()}


def decayed_raw_bias(*, leans):
    """Decay on a bias behind an input with a mean of three deviations."""
    model = mlp(8, 16, 3, activation=nn.Tanh)
    case = task()
    case["data"] = case["data"] + (3 if leans else 0)
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1, weight_decay=0.1)
    optimizer.add_param_group({"params": model[2].parameters(), "weight_decay": 0.0})
    return {"model": model, "optimizer": optimizer, **case}


def misplaced_l2(*, leans):
    """As a term of the loss and so strong that nothing is learnt; as a decay."""
    model = mlp(8, 32, 32, 3)
    case, cross_entropy = task(), nn.CrossEntropyLoss()

    def loss(output, target):
        square = sum(p.square().sum() for p in model.parameters())
        return cross_entropy(output, target) + 0.1 * square

    if leans:
        case["loss"] = loss
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {"model": model, "optimizer": optimizer, **case}


def unsafe_clipping(*, leans):
    model = mlp(8, 16, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def by_norm(optimizer, args, kwargs):
        clip_grad_norm_(model.parameters(), 1.0)

    def by_value(optimizer, args, kwargs):
        clip_grad_value_(model.parameters(), 1.0)

    optimizer.register_step_pre_hook(by_norm if leans else by_value)
    return {"model": model, "optimizer": optimizer, **task()}


def stuck_parameter(*, leans):
    """Weights in bfloat16, whose spacing is above a small step; in float32."""
    dtype = torch.bfloat16 if leans else torch.float32
    model = mlp(8, 32, 3).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    return {
        "model": model,
        "optimizer": optimizer,
        "stage": "init",
        **task(dtype=dtype),
    }


CASES = {
    "PB503": step_too_long,
    "PB504": decayed_raw_bias,
    "PB505": misplaced_l2,
    "PB506": unsafe_clipping,
    "PB507": stuck_parameter,
}
