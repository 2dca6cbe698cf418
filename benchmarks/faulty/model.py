"""The network, the loss and the optimiser of a case, in plain PyTorch."""

from math import prod

import torch
from torch import nn
from torch.nn import functional

ACTIVATIONS = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "linear": nn.Identity,
}
OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
CUT = 0.87962566  # the standard deviation of a standard normal cut at 2


class Exponential(nn.Module):
    def forward(self, z):
        return z.exp()


def draw(tensor, how):
    """Draw a tensor (out, in, ...) in place from an initialiser of a case."""
    name, _, size = how.partition(":")
    fan_in = prod(tensor.shape[1:])
    if name == "glorot_uniform":
        nn.init.xavier_uniform_(tensor)
    elif name == "glorot_normal":
        nn.init.xavier_normal_(tensor)
    elif name == "he_uniform":
        nn.init.kaiming_uniform_(tensor, nonlinearity="relu")
    elif name == "he_normal":
        std = (2 / fan_in) ** 0.5 / CUT
        nn.init.trunc_normal_(tensor, 0, std, -2 * std, 2 * std)
    elif name == "uniform":
        nn.init.uniform_(tensor, -float(size or 0.05), float(size or 0.05))
    elif name == "normal":
        nn.init.normal_(tensor, 0, float(size or 0.05))
    elif name == "const":
        nn.init.constant_(tensor, float(size))
    else:
        raise ValueError(f"expected an initialiser that is known here, got {how!r}")


def layer(spec, shape):
    """Return the module of one layer on inputs of a shape without the batch's axis."""
    kind = spec["type"]
    if kind in {"dense", "conv2d"}:
        bias = spec.get("bias", True)
        if kind == "dense":
            module = nn.Linear(shape[-1], spec["out"], bias=bias)
        else:
            sizes = shape[0], spec["out"], spec["k"]
            module = nn.Conv2d(*sizes, padding=spec.get("pad", 0), bias=bias)
        with torch.no_grad():
            draw(module.weight, spec.get("w_init", "glorot_uniform"))
            if bias and (how := spec.get("b_init", "zeros")) != "zeros":
                draw(module.bias[None], how)
            elif bias:
                nn.init.zeros_(module.bias)
        return module
    if kind == "maxpool2d":
        return nn.MaxPool2d(spec["k"])
    if kind == "flatten":
        return nn.Flatten()
    if kind == "dropout":
        return nn.Dropout(spec["p"])
    if kind == "batchnorm":
        return (nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(shape[0])
    if kind == "softmax":
        return nn.Softmax(spec.get("dim", -1))
    return Exponential() if kind == "exponential" else ACTIVATIONS[kind]()


def build(case, x):
    """Return the network of a case for inputs like x, in training mode."""
    model, x = nn.Sequential(), x[:4]
    for spec in case["layers"]:
        module = layer(spec, x.shape[1:])
        with torch.no_grad():
            x = module.eval()(x)
        model.append(module)
    return model.train()


def loss_of(case, classes, model):
    """Return the loss(outputs, targets) of a case, its penalty on weights included."""
    spec, penalty = case["loss"], case.get("l2", 0)
    name, multiclass = spec["name"], case["task"] == "multiclass"
    total = torch.sum if spec.get("reduction") == "sum" else torch.mean

    def aims(out, y):
        if spec.get("drop_target_axis"):
            return y.reshape(-1)
        if multiclass and not (name in {"mse", "mae"} and out.shape[1] == 1):
            return functional.one_hot(y.long(), classes).float()
        return y if y.ndim > 1 else y[:, None]

    def each(out, y):
        if name == "ce_logits":
            return functional.cross_entropy(out, y.long(), reduction="none")
        Y = aims(out, y)
        if name == "mse":
            return (out - Y) ** 2
        if name == "mae":
            return (out - Y).abs()
        if name == "bce_logits":
            return functional.binary_cross_entropy_with_logits(out, Y, reduction="none")
        if name == "bce_probs":
            p = out.clamp(1e-7, 1 - 1e-7)
            return -(Y * p.log() + (1 - Y) * (1 - p).log())
        if name == "cce_probs":
            Y = Y if out.shape[1] > 1 else y[:, None]
            p = (out / out.sum(-1, keepdim=True)).clamp(1e-7, 1 - 1e-7)
            return -(Y * p.log()).sum(-1)
        if name == "cce_clip":
            return -(Y * out.clamp(1e-10, 1).log()).sum(-1)
        raise ValueError(f"expected a loss that is known here, got {name!r}")

    def loss(out, y):
        value = total(each(out, y))
        if penalty:
            weights = [p for n, p in model.named_parameters() if n.endswith("weight")]
            value = value + penalty * sum((w**2).sum() for w in weights)
        return value

    return loss


def optimizer_of(case, model):
    options = {k: v for k, v in case["optimizer"].items() if k not in {"name", "decay"}}
    make = OPTIMIZERS[case["optimizer"]["name"]]
    return make(model.parameters(), foreach=False, **options)
