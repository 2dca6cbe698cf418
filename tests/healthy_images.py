"""Healthy networks of images. Importing this adds to `healthy.FAMILIES`."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from healthy import Training, batched, digits, family, images, quick


def conv_norm(fan_in, out, size=3, **options):
    return nn.Sequential(
        nn.Conv2d(fan_in, out, size, padding=size // 2, bias=False, **options),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def classifier(*body, width):
    pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, *pool, nn.Linear(width, 10))


class Dense(nn.Module):
    """A layer whose inputs are kept beside its outputs (DenseNet)."""

    def __init__(self, fan_in, growth):
        super().__init__()
        self.norm = nn.BatchNorm2d(fan_in)
        self.conv = nn.Conv2d(fan_in, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv(self.norm(x).relu())], 1)


@family
def densenet(seed):
    layers = [Dense(16 + 8 * i, 8) for i in range(4)]
    model = classifier(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        *layers,
        nn.BatchNorm2d(48),
        nn.ReLU(),
        width=48,
    )
    return Training(model=model, batches=images(seed), optimizer=quick(1e-2), epochs=4)


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = conv_norm(channels, channels)
        self.down, self.up = nn.Linear(channels, 8), nn.Linear(8, channels)

    def forward(self, x):
        y = self.conv(x)
        gate = self.up(self.down(y.mean((2, 3))).relu()).sigmoid()
        return x + y * gate[:, :, None, None]


@family
def squeeze_excite(seed):
    model = classifier(conv_norm(1, 16), SqueezeExcite(16), SqueezeExcite(16), width=16)
    return Training(model=model, batches=images(seed), optimizer=quick(1e-2), epochs=6)


class ConvNext(nn.Module):
    """Depthwise, layer norm, widen, GELU, narrow, a small scale, skip."""

    def __init__(self, channels, scale=1e-2):
        super().__init__()
        self.depth = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, 2 * channels)
        self.down = nn.Linear(2 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x):
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(functional.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


@family
def convnext(seed):
    model = nn.Sequential(
        nn.Conv2d(1, 24, 2, stride=2),
        *[ConvNext(24) for _ in range(3)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(24),
        nn.Linear(24, 10),
    )
    return Training(model=model, batches=images(seed), optimizer=quick(1e-2), epochs=6)


class LayerScaleBlock(nn.Module):
    """A pre-norm transformer block whose branches begin at 1e-4 of their size."""

    def __init__(self, width):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up, self.down = nn.Linear(width, 64), nn.Linear(64, width)
        self.scales = nn.ParameterList(torch.full((width,), 1e-4) for _ in range(2))

    def forward(self, x):
        y = self.norms[0](x)
        x = x + self.scales[0] * self.attention(y, y, y, need_weights=False)[0]
        y = functional.gelu(self.up(self.norms[1](x)))
        return x + self.scales[1] * self.down(y)


class Rows(nn.Module):
    """Rows of the image as tokens, a body, their mean, a head."""

    def __init__(self, width, *body):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Parameter(0.02 * torch.randn(8, width))
        self.body, self.norm = nn.Sequential(*body), nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        y = self.body(self.embed(x.squeeze(1)) + self.place)
        return self.head(self.norm(y).mean(1))


@family
def layer_scale(seed):
    model = Rows(32, LayerScaleBlock(32), LayerScaleBlock(32))
    return Training(model=model, batches=images(seed))


class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.tokens = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.channels = nn.Sequential(
            nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width)
        )

    def forward(self, x):
        x = x + self.tokens(self.norms[0](x).mT).mT
        return x + self.channels(self.norms[1](x))


@family
def mlp_mixer(seed):
    return Training(model=Rows(32, Mixer(32), Mixer(32)), batches=images(seed))


class Fixup(nn.Module):
    """A residual block without a norm: scalar biases, a scale, its last map at 0."""

    def __init__(self, channels, depth):
        super().__init__()
        self.biases = nn.Parameter(torch.zeros(4))
        self.scale = nn.Parameter(torch.ones(1))
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        with torch.no_grad():
            self.conv1.weight.mul_(depth**-0.5)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x):
        y = (self.conv1(x + self.biases[0]) + self.biases[1]).relu()
        return (x + self.scale * self.conv2(y + self.biases[2]) + self.biases[3]).relu()


@family
def fixup(seed):
    model = classifier(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        *[Fixup(16, 3) for _ in range(3)],
        width=16,
    )
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    return Training(model=model, batches=images(seed), optimizer=quick(5e-3))


@family
def weight_normed(seed):
    model = nn.Sequential(
        weight_norm(nn.Conv2d(1, 16, 3, padding=1)),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        weight_norm(nn.Linear(256, 48)),
        nn.ReLU(),
        weight_norm(nn.Linear(48, 10)),
    )
    return Training(model=model, batches=images(seed))


def fake(x, low, high):
    """Round to the 8-bit grid of a range; gradients pass straight through."""
    step = (high - low).clamp_min(1e-6) / 255
    grid = ((x - low) / step).round().clamp(0, 255) * step + low
    return x + (grid - x).detach()


class FakeQuantised(nn.Linear):
    """A linear layer that trains as it will run in 8 bits."""

    def forward(self, x):
        weight = fake(self.weight, self.weight.min(), self.weight.max())
        return functional.linear(
            fake(x, x.min().detach(), x.max().detach()), weight, self.bias
        )


@family
def quantisation_aware(seed):
    model = nn.Sequential(
        FakeQuantised(64, 64),
        nn.ReLU(),
        FakeQuantised(64, 48),
        nn.ReLU(),
        FakeQuantised(48, 10),
    )
    return Training(model=model, batches=batched(*digits(), seed))


class SegmentationUNet(nn.Module):
    def __init__(self, outputs=1):
        super().__init__()
        self.down1, self.down2 = conv_norm(1, 12), conv_norm(12, 24)
        self.bottom = conv_norm(24, 24)
        self.up = nn.ConvTranspose2d(24, 12, 2, stride=2)
        self.last, self.head = conv_norm(24, 12), nn.Conv2d(12, outputs, 1)

    def forward(self, x):
        fine = self.down1(x)
        deep = self.bottom(self.down2(functional.max_pool2d(fine, 2)))
        return self.head(self.last(torch.cat([fine, self.up(deep)], 1)))


@family
def segmentation_unet(seed):
    """Which pixels of a noisy picture are ink."""
    x, _ = digits("pixels")
    clean = x.view(-1, 1, 8, 8)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return Training(
        model=SegmentationUNet(),
        batches=batched(clean + 0.2 * noise, (clean > 0.5).float(), seed),
        loss=functional.binary_cross_entropy_with_logits,
        optimizer=quick(1e-2),
    )


@family
def group_norm_swish(seed):
    def block(a, b):
        return nn.Conv2d(a, b, 3, padding=1, bias=False), nn.GroupNorm(4, b), nn.SiLU()

    model = classifier(*block(1, 16), nn.MaxPool2d(2), *block(16, 32), width=32)
    return Training(model=model, batches=images(seed), optimizer=quick(1e-2))


@family
def conv1d_signal(seed):
    """Which of three frequencies a noisy wave has."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (768,), generator=g)
    phase = 6.28 * torch.rand(768, 1, generator=g)
    waves = torch.sin(torch.arange(32) * (0.3 + 0.3 * y[:, None]) + phase)
    x = (waves + 0.3 * torch.randn(768, 32, generator=g))[:, None]
    model = nn.Sequential(
        nn.Conv1d(1, 16, 5, padding=2),
        nn.ReLU(),
        nn.Conv1d(16, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    return Training(model=model, batches=batched(x, y, seed))
