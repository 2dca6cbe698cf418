"""Random models of what the smooth ones of `graphs` lack: what strangers build."""

import torch
from torch import nn
from torch.nn import functional

from graphs import SMOOTH, Attention, Sum

SHARP = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.Sigmoid, nn.ELU)


class Named(nn.Module):
    """Returns a mapping, with what lies in the middle or without."""

    def __init__(self, body, middle):
        super().__init__()
        self.body, self.middle = body, middle

    def forward(self, x):
        found = {}
        for i, layer in enumerate(self.body):
            x = layer(x)
            if i == self.middle:
                found["middle"] = x
        return found | {"last": x}


class Join(nn.Module):
    """Branches laid side by side, along the channels or the last axis."""

    def __init__(self, axis, *branches):
        super().__init__()
        self.axis, self.branches = axis, nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], self.axis)


class Again(nn.Module):
    """One module, called twice."""

    def __init__(self, inner, *, residual):
        super().__init__()
        self.inner, self.residual = inner, residual

    def forward(self, x):
        for _ in range(2):
            x = x + self.inner(x) if self.residual else self.inner(x)
        return x


class Gate(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x):
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class First(nn.Module):
    """The sequence that a layer returns first."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


class Attend(nn.Module):
    """The packed attention of torch, on itself or on a memory that is learned."""

    def __init__(self, width, memory, **options):
        super().__init__()
        self.attend = nn.MultiheadAttention(width, 2, batch_first=True, **options)
        self.memory = nn.Parameter(torch.randn(1, 4, width)) if memory else None

    def forward(self, x):
        other = x if self.memory is None else self.memory.expand(len(x), -1, -1)
        return self.attend(x, other, other, need_weights=False)[0]


class Grouped(nn.Module):
    """Separate maps, fewer heads of keys and values, with rotation or norms or none."""

    def __init__(self, width, kind):
        super().__init__()
        self.kind, half = kind, width // 2
        self.q, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.k, self.v = nn.Linear(width, half), nn.Linear(width, half)
        self.norm = nn.LayerNorm(half) if kind == "norms" else nn.Identity()

    def forward(self, x):
        batch, length, width = x.shape
        q = self.q(x).view(batch, length, 2, width // 2).transpose(1, 2)
        k, v = self.norm(self.k(x))[:, None], self.v(x)[:, None]
        if self.kind == "rotated":
            turn = torch.arange(length, device=x.device)[:, None] * 0.3
            q, k = (
                t * turn.cos().to(t) + t.roll(1, -1) * turn.sin().to(t) for t in (q, k)
            )
        z = functional.scaled_dot_product_attention(
            q, k.expand(-1, 2, -1, -1), v.expand(-1, 2, -1, -1)
        )
        return self.out(z.transpose(1, 2).reshape(batch, length, width))


class Words(nn.Module):
    """Tables of words and places, added."""

    def __init__(self, width):
        super().__init__()
        self.words, self.places = nn.Embedding(11, width), nn.Embedding(9, width)

    def forward(self, x):
        return self.words(x) + self.places(torch.arange(x.shape[1], device=x.device))


class Standardised(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.register_buffer("mean", torch.randn(shape))
        self.register_buffer("scale", torch.rand(shape) + 0.5)

    def forward(self, x):
        return (x - self.mean) / self.scale


def bend(draw):
    return draw.choice([*SMOOTH, *SHARP])()


def norm(draw, width):
    kinds = [
        lambda: nn.LayerNorm(width, bias=draw.random() < 0.7),
        lambda: nn.RMSNorm(width),
        lambda: nn.LayerNorm(width, elementwise_affine=False),
    ]
    return draw.choice(kinds)()


def perceptrons(draw):
    """Maps in a row, with norms, gates and bounds."""
    width, layers = 6, [nn.Linear(6, 6)]
    if draw.random() < 0.3:
        layers = [Standardised(6), *layers]
    for _ in range(draw.randint(2, 5)):
        out = draw.choice([6, 8])
        kind = draw.randrange(9)
        if kind == 0:
            layers += [nn.BatchNorm1d(width, affine=draw.random() < 0.7), bend(draw)]
        elif kind == 1:
            layers += [norm(draw, width), nn.Linear(width, out)]
            width = out
        elif kind == 2:
            layers.append(Again(nn.Linear(width, width), residual=draw.random() < 0.5))
        elif kind == 3:
            layers.append(Join(-1, nn.Linear(width, 4), nn.Linear(width, 4)))
            width = 8
        elif kind == 4:
            layers.append(Sum(nn.Identity(), Gate(width, out)))
        elif kind == 5:
            layers += [nn.Sigmoid(), nn.Linear(width, out), bend(draw)]
            layers.append(nn.Linear(out, width))
        elif kind == 6:
            layers += [nn.GroupNorm(2, width), nn.PReLU(draw.choice([1, width]))]
        elif kind == 7:
            layers += [bend(draw), nn.Dropout(draw.choice([0.0, 0.3]))]
        else:
            layers.append(nn.Linear(width, out, bias=draw.random() < 0.7))
            width = out
    ends = [nn.Identity(), nn.Softmax(-1), nn.Linear(width, 3), bend(draw)]
    return nn.Sequential(*layers, draw.choice(ends)), torch.randn(40, 6)


def convolution(draw, width, out, turned):
    groups = draw.choice([1, 2])
    options = {"groups": groups, "bias": draw.random() < 0.8}
    if turned:
        stride = draw.choice([1, 2])
        return nn.ConvTranspose2d(width, out, 3, stride, 1, stride - 1, **options)
    mode = draw.choice(["zeros", "circular", "reflect", "replicate"])
    padding = draw.choice([0, 1, 2, "same"])
    return nn.Conv2d(width, out, 3, 1, padding, padding_mode=mode, **options)


def pictures(draw):
    """Grouped, transposed, depthwise and pointwise maps, branches and skips."""
    width, layers = 6, [nn.Conv2d(3, 6, 3, draw.choice([1, 2]), bias=True)]
    if draw.random() < 0.3:
        layers = [Standardised(3, 1, 1), *layers]
    for _ in range(draw.randint(2, 5)):
        out, kind = draw.choice([4, 6]), draw.randrange(8)
        if kind == 0:
            layers += [nn.BatchNorm2d(width), bend(draw)]
        elif kind == 1:
            inner = [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)]
            skip = draw.choice([nn.Identity(), nn.Conv2d(width, width, 1)])
            layers += [Sum(skip, nn.Sequential(*inner)), nn.ReLU()]
        elif kind == 2:
            depth = nn.Conv2d(width, 2 * width, 3, groups=width, padding=1)
            layers += [depth, nn.Conv2d(2 * width, width, 1)]
        elif kind == 3:
            branches = [nn.Conv2d(width, 4, 1), nn.Conv2d(width, 2, 3, padding=1)]
            layers.append(Join(1, *branches))
            width = 6
        elif kind == 4:
            layers += [nn.GroupNorm(2, width), bend(draw)]
        elif kind == 5:
            layers.append(draw.choice([nn.MaxPool2d(2, 1), nn.AvgPool2d(3, 1, 1)]))
        else:
            layers.append(convolution(draw, width, out, kind == 6))
            width = out
    ends = [
        [],
        [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)],
        [nn.Flatten(2), nn.BatchNorm1d(width)],
        [nn.InstanceNorm2d(width, affine=True)],
    ]
    return nn.Sequential(*layers, *draw.choice(ends)), torch.randn(6, 3, 12, 12)


def recurrent(draw, width):
    kind = draw.choice([nn.LSTM, nn.GRU, nn.RNN])
    both = draw.random() < 0.5
    options = {"bidirectional": both, "num_layers": draw.choice([1, 2])}
    if kind is nn.LSTM and draw.random() < 0.3:
        options["proj_size"] = 3
    size = options.get("proj_size", 4) * (1 + both)
    layer = kind(width, 4, batch_first=draw.random() < 0.5, **options)
    return [First(layer), nn.Linear(size, width)]


def block(draw, width):
    kind = draw.randrange(7)
    if kind == 0:
        options = {"bias": draw.random() < 0.8, "add_bias_kv": draw.random() < 0.2}
        options["add_zero_attn"] = draw.random() < 0.2
        return Attend(width, draw.random() < 0.3, **options)
    if kind == 1:
        return Grouped(width, draw.choice(["plain", "rotated", "norms"]))
    if kind == 2:
        return nn.Sequential(*recurrent(draw, width))
    if kind == 3:
        return Gate(width, 10)
    if kind == 4:
        return Attention(width, 2, draw.choice(["fused", "by hand"]))
    return nn.Sequential(nn.Linear(width, 10), bend(draw), nn.Linear(10, width))


def texts(draw):
    """Words, layers before or behind norms, whole layers of torch, tied heads."""
    width, words = 8, draw.random() < 0.6
    layers = [Words(width) if words else nn.Linear(5, width)]
    pre = draw.random() < 0.5
    for _ in range(draw.randint(1, 3)):
        kind = draw.random()
        if kind < 0.2:
            layer = nn.TransformerEncoderLayer(
                width, 2, 12, draw.choice([0.0, 0.1]), draw.choice(["gelu", "relu"]),
                batch_first=True, norm_first=pre,
            )  # fmt: skip
            layers.append(layer)
        elif kind < 0.3:
            inner = nn.Sequential(norm(draw, width), nn.Linear(width, width))
            layers.append(Again(inner, residual=True))
        elif pre:
            inner = nn.Sequential(norm(draw, width), block(draw, width))
            layers.append(Sum(nn.Identity(), inner))
        else:
            layers += [Sum(nn.Identity(), block(draw, width)), norm(draw, width)]
    if draw.random() < 0.5:
        layers.append(norm(draw, width))
    head = nn.Linear(width, 11 if words else 3, bias=draw.random() < 0.5)
    if words and draw.random() < 0.5:
        head.weight = layers[0].words.weight
    layers += draw.choice([[], [head], [head, nn.LogSoftmax(-1)]])
    x = torch.randint(11, (9, 5)) if words else torch.randn(9, 5, 5)
    return nn.Sequential(*layers), x


def drawn_by(draw):
    """Draw a model and its input; some return a mapping."""
    with torch.random.fork_rng():
        torch.manual_seed(draw.randrange(2**16))
        return draw.choice([perceptrons, pictures, texts, texts])(draw)


def named(draw, model):
    """Return a model that returns a mapping, as it is or with a layer's values."""
    return Named(model, draw.choice([-1, draw.randrange(len(model))]))
