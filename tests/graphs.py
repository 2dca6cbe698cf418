"""Random models of supported layers, smooth, so that numerics see what there is."""

import random

import torch
from torch import nn
from torch.nn import functional


class Sum(nn.Module):
    """Branches added up; a branch of nothing is the input itself."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return sum(branch(x) for branch in self.branches)


class Attention(nn.Module):
    """Attention by hand or packed, with grouped heads or not."""

    def __init__(self, width, heads, kind):
        super().__init__()
        self.heads, self.kind = heads, kind
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k, v = (
            t.view(batch, length, self.heads, -1).transpose(1, 2) for t in (q, k, v)
        )
        if self.kind == "fused":
            z = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            z = (q @ k.mT / width).softmax(-1) @ v
        return self.out(z.transpose(1, 2).reshape(batch, length, width))


class Duel(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.value, self.advantage = nn.Linear(width, 1), nn.Linear(width, out)

    def forward(self, x):
        a = self.advantage(x)
        return self.value(x) + a - a.mean(-1, keepdim=True)


SMOOTH = (nn.Tanh, nn.GELU, nn.SiLU, nn.Softplus)


def dense(draw, width):
    """Draw a block on (batch, width), and its width."""
    out = draw.choice([6, 8])
    kind = draw.randrange(9)
    if kind == 0:
        return draw.choice(SMOOTH)(), width
    if kind == 1:
        return nn.LayerNorm(width, elementwise_affine=draw.random() < 0.7), width
    if kind == 2:
        return nn.BatchNorm1d(width), width
    if kind == 3:
        return nn.GroupNorm(2, width), width
    if kind == 4:
        inner = [nn.Linear(width, out), draw.choice(SMOOTH)(), nn.Linear(out, width)]
        norm = [nn.LayerNorm(width)] if draw.random() < 0.5 else []
        return Sum(nn.Identity(), nn.Sequential(*norm, *inner)), width
    if kind == 5:
        return Sum(nn.Linear(width, out), nn.Linear(width, out)), out
    if kind == 6:
        return nn.Dropout(0.0), width
    return nn.Linear(width, out, bias=draw.random() < 0.8), out


def vectors(draw):
    width, layers = 5, [nn.Linear(5, 6)]
    width = 6
    for _ in range(draw.randint(2, 7)):
        layer, width = dense(draw, width)
        layers.append(layer)
    ends = [nn.Identity(), nn.Softmax(-1), nn.LogSoftmax(-1), Duel(width, 5)]
    return nn.Sequential(*layers, draw.choice(ends)), torch.randn(90, 5)


def images(draw):
    width, layers = 6, [nn.Conv2d(3, 6, 3)]
    for _ in range(draw.randint(2, 6)):
        out, kind = draw.choice([6, 8]), draw.randrange(9)
        if kind == 0:
            layers.append(draw.choice(SMOOTH)())
        elif kind == 1:
            layers.append(nn.GroupNorm(draw.choice([1, 2]), width))
        elif kind == 2:
            layers.append(nn.BatchNorm2d(width))
        elif kind == 3:
            layers.append(nn.InstanceNorm2d(width, affine=draw.random() < 0.5))
        elif kind == 4:
            pools = [nn.AvgPool2d(2, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False)]
            layers.append(draw.choice([*pools, nn.Upsample(scale_factor=2)]))
        elif kind == 5:
            layers.append(nn.ConvTranspose2d(width, out, 3))
            width = out
        else:
            mode = draw.choice(["zeros", "circular", "reflect", "replicate"])
            padding = draw.choice([0, 1])
            layers.append(nn.Conv2d(width, out, 3, 1, padding, padding_mode=mode))
            width = out
    ends = [nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())]
    return nn.Sequential(*layers, draw.choice(ends)), torch.randn(8, 3, 13, 13)


def sequences(draw):
    layers, pre = [nn.Linear(5, 8)], draw.random() < 0.5
    for _ in range(draw.randint(1, 3)):
        block = draw.choice([
            Attention(8, draw.choice([2, 4]), draw.choice(["fused", "by hand"])),
            nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 8)),
        ])
        if pre:
            layers.append(Sum(nn.Identity(), nn.Sequential(nn.LayerNorm(8), block)))
        else:
            layers += [Sum(nn.Identity(), block), nn.LayerNorm(8)]
    ends = [nn.LayerNorm(8), nn.Linear(8, 3), nn.Identity()]
    return nn.Sequential(*layers, draw.choice(ends)), torch.randn(14, 6, 5)


def drawn_by(draw):
    """Draw a model and its input, its layers by a generator of random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(draw.randrange(2**16))
        return draw.choice([vectors, images, sequences])(draw)


def drawn(seed):
    """Draw a model and its input."""
    draw = random.Random(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return draw.choice([vectors, images, sequences])(draw)
