"""The zoo's nets of redundancy; see nets.py."""

import torch
from torch import nn

from netting import mlp, seeded


def normed(conv, norm):
    model = nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(4 * 3 * 3, 2))
    return {"model": model, "data": torch.randn(16, 2, 5, 5, generator=seeded())}


def bias_before_instance_norm(*, leans):
    return normed(nn.Conv2d(2, 4, 3, bias=leans), nn.InstanceNorm2d(4))


def group_mean_before_group_norm(*, leans):
    """As many groups as channels, where all of the bias is lost."""
    return normed(nn.Conv2d(2, 4, 3, bias=leans), nn.GroupNorm(4, 4))


class Attention(nn.Module):
    """Self-attention with one head; only its values may lack a bias."""

    def __init__(self, width, *, value_bias):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=value_bias)
        self.out = nn.Linear(width, width)
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        scores = self.query(x) @ self.key(x).mT / x.shape[-1] ** 0.5
        return self.head(self.out(scores.softmax(-1) @ self.value(x)).relu().mean(1))


def value_bias(*, leans):
    x = torch.randn(16, 5, 8, generator=seeded())
    return {"model": Attention(8, value_bias=leans), "data": x}


def constant_before_layer_norm(*, leans):
    model = mlp(8, 16, 2)
    model[0] = nn.Linear(8, 16, bias=leans)
    model.insert(1, nn.LayerNorm(16))
    return {"model": model, "data": torch.randn(64, 8, generator=seeded())}


class Last(nn.Module):
    """A recurrent layer, and a map of its last state."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(layer.hidden_size, 2)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


def double_rnn_bias(*, leans):
    model = Last(nn.LSTM(4, 6, batch_first=True, bias=leans))
    return {"model": model, "data": torch.randn(16, 5, 4, generator=seeded())}


def duplicated_layer_norm_bias(*, leans):
    """A norm before the activation's map; its twin has a norm without a bias."""
    model = mlp(8, 16, 2)
    model.insert(0, nn.LayerNorm(8, bias=leans))
    return {"model": model, "data": torch.randn(64, 8, generator=seeded())}


class Branches(nn.Module):
    """Two maps of one input, summed."""

    def __init__(self, *, both):
        super().__init__()
        self.left, self.right = nn.Linear(8, 16), nn.Linear(8, 16, bias=both)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head((self.left(x) + self.right(x.tanh())).relu())


def duplicated_branch_bias(*, leans):
    x = torch.randn(64, 8, generator=seeded())
    return {"model": Branches(both=leans), "data": x}


def stacked_linear(*, leans):
    model = mlp(8, 16, 16, 2)
    if leans:
        del model[1]
    return {"model": model, "data": torch.randn(64, 8, generator=seeded())}


def bias_in_input_span(*, leans):
    """Five numbers and a code of four classes; its twin leaves out one of these."""
    model = mlp(9 if leans else 8, 16, 2)
    labels = torch.randint(4, (64,), generator=seeded())
    code = nn.functional.one_hot(labels, 4).float()
    x = torch.cat([torch.randn(64, 5, generator=seeded()), code], 1)
    return {"model": model, "data": x if leans else x[:, :-1]}


def unfolded_batch_norm(*, leans):
    """A model that only runs; its twin is trained on."""
    model = mlp(8, 16, 2)
    model.insert(1, nn.BatchNorm1d(16))
    x = torch.randn(64, 8, generator=seeded())
    return {"model": model.train(not leans), "data": x, "stage": "trained"}


def proved_dead_unit(*, leans):
    """Unit 3 has no positive weight, and what it reads is never negative."""
    model = mlp(8, 16, 16, 2)
    if leans:
        model[2].weight.data[3] = -model[2].weight.data[3].abs()
        model[2].bias.data[3] = -0.5
    return {"model": model, "data": torch.randn(64, 8, generator=seeded())}


def constant_logit(*, leans):
    """A softmax ends the model; in its twin a sigmoid does."""
    model = mlp(8, 16, 4)
    model[2].bias.data[:2] = 0.5
    model.append(nn.Softmax(-1) if leans else nn.Sigmoid())
    return {"model": model, "data": torch.randn(64, 8, generator=seeded())}


CASES = {
    "PB302": bias_before_instance_norm,
    "PB304": value_bias,
    "PB305": constant_before_layer_norm,
    "PB306": constant_logit,
    "PB307": group_mean_before_group_norm,
    "PB308": double_rnn_bias,
    "PB309": duplicated_layer_norm_bias,
    "PB310": stacked_linear,
    "PB311": bias_in_input_span,
    "PB312": unfolded_batch_norm,
    "PB313": duplicated_branch_bias,
    "PB314": proved_dead_unit,
}
