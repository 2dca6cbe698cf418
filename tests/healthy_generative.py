"""Healthy networks that generate. Importing this adds to `healthy.FAMILIES`."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy_with_logits

from healthy import Training, batched, digits, family, quick


def pixels(seed, *, size=64):
    """Return batches of pictures (rows, 64) in [0, 1]."""
    x, _ = digits("pixels")
    return [part for part, _ in batched(x, x, seed, size=size)]


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 48), nn.ReLU())
        self.mean, self.log_var = nn.Linear(48, 6), nn.Linear(48, 6)
        self.decode = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 64))

    def forward(self, x):
        h = self.body(x)
        mean, log_var = self.mean(h), self.log_var(h)
        noise = torch.randn_like(mean) if self.training else 0.0
        return self.decode(mean + noise * (log_var / 2).exp()), mean, log_var


def evidence_bound(outputs, x):
    """Return the bound in nats per picture: summed over pixels, averaged over rows."""
    logits, mean, log_var = outputs
    fit = binary_cross_entropy_with_logits(logits, x, reduction="sum")
    extra = (mean**2 + log_var.exp() - 1 - log_var).sum() / 2
    return (fit + extra) / len(x)


@family
def vae(seed):
    return Training(
        model=VAE(),
        batches=[(x, x) for x in pixels(seed)],
        loss=evidence_bound,
        epochs=12,
    )


class Pair(Training):
    """A generator and its critic, a step of each in turn; one of them is checked."""

    def __init__(self, seed, *, checked):
        self.seed, self.checked, self.epochs, self.trained_only = (
            seed,
            checked,
            8,
            False,
        )
        self.pictures = [2 * x - 1 for x in pixels(seed)]
        self.generator = nn.Sequential(
            nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 64), nn.Tanh()
        )
        self.critic = nn.Sequential(
            nn.Linear(64, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1)
        )
        steps = {"lr": 1e-3, "betas": (0.5, 0.999)}
        self.makes = torch.optim.Adam(self.generator.parameters(), **steps)
        self.judges = torch.optim.Adam(self.critic.parameters(), **steps)
        self.model = self.generator if checked == "generator" else self.critic

    def train(self):
        real, false = torch.ones(64, 1), torch.zeros(64, 1)
        for _ in range(self.epochs):
            for picture in self.pictures:
                made = self.generator(torch.randn(len(picture), 16))
                judged = torch.cat([self.critic(picture), self.critic(made.detach())])
                self.judges.zero_grad()
                self.said(judged, torch.cat([real, false])).backward()
                self.judges.step()
                self.makes.zero_grad()
                self.said(self.critic(made), real).backward()
                self.makes.step()

    @staticmethod
    def said(judged, y):
        return binary_cross_entropy_with_logits(judged, y)

    def fooled(self, made, y):
        return self.said(self.critic(made), y)

    def case(self):
        g = torch.Generator().manual_seed(self.seed)
        noise = [torch.randn(64, 16, generator=g) for _ in self.pictures]
        if self.checked == "generator":
            batches = [(z, torch.ones(64, 1)) for z in noise]
            loss, optimizer = self.fooled, self.makes
        else:
            with torch.no_grad():
                made = [self.generator(z) for z in noise]
            mix = torch.randperm(128, generator=g)
            both = [torch.cat(p)[mix] for p in zip(self.pictures, made, strict=True)]
            y = torch.cat([torch.ones(64, 1), torch.zeros(64, 1)])[mix]
            batches, loss = [(x, y) for x in both], self.said
            optimizer = self.judges
        return {
            "model": self.model,
            "data": batches,
            "loss": loss,
            "optimizer": optimizer,
        }


@family
def gan_generator(seed):
    return Pair(seed, checked="generator")


@family
def gan_discriminator(seed):
    return Pair(seed, checked="critic")


class Timed(nn.Module):
    """A residual block that is told the time; its last convolution begins at 0."""

    def __init__(self, channels):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(4, channels) for _ in range(2))
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(32, channels)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, time):
        h = self.conv1(functional.silu(self.norms[0](x)))
        h = h + self.time(time)[:, :, None, None]
        return x + self.conv2(functional.silu(self.norms[1](h)))


class DiffusionUNet(nn.Module):
    """Says which noise was added, at a level that it is told."""

    def __init__(self, channels=16):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 32), nn.SiLU())
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.fine, self.deep = Timed(channels), Timed(channels)
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.last = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(4, channels)
        self.head = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x, level):
        angles = level[:, None] * 2.0 ** torch.arange(8)
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        fine = self.fine(self.first(x), time)
        deep = self.up(self.deep(self.down(fine), time))
        h = self.last(torch.cat([fine, deep], 1))
        return self.head(functional.silu(self.norm(h)))


@family
def diffusion_unet(seed):
    g = torch.Generator().manual_seed(seed)
    batches = []
    for x in pixels(seed):
        level = torch.rand(len(x), generator=g)
        noise = torch.randn(len(x), 1, 8, 8, generator=g)
        kept = (1 - level**2).sqrt()[:, None, None, None]
        mixed = kept * (2 * x.view(-1, 1, 8, 8) - 1)
        batches.append((mixed + level[:, None, None, None] * noise, level, noise))
    return Training(
        model=DiffusionUNet(), batches=batches, loss=nn.MSELoss(), epochs=12
    )


class Coupling(nn.Module):
    """An affine map of one half whose size and place the other half says."""

    def __init__(self, flip):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 2))
        nn.init.zeros_(self.net[2].weight)
        nn.init.zeros_(self.net[2].bias)

    def forward(self, x):
        kept, moved = x.flip(1).split(1, 1) if self.flip else x.split(1, 1)
        log_scale, shift = self.net(kept).split(1, 1)
        log_scale = log_scale.tanh()
        y = torch.cat([kept, moved * log_scale.exp() + shift], 1)
        return (y.flip(1) if self.flip else y), log_scale


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList(Coupling(bool(i % 2)) for i in range(4))

    def forward(self, x):
        volume = torch.zeros(len(x), 1)
        for step in self.steps:
            x, more = step(x)
            volume = volume + more
        return x, volume


def surprise(outputs, _):
    z, volume = outputs
    return ((z**2).sum(1) / 2 + 1.837877 - volume[:, 0]).mean()


@family
def normalising_flow(seed):
    """The density of a bent cloud in the plane."""
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 768, 1, generator=g)
    x = torch.cat([a, a**2 - 1 + 0.3 * b], 1)
    return Training(
        model=Flow(),
        batches=batched(x, x, seed),
        loss=surprise,
        optimizer=quick(5e-3),
        epochs=15,
    )


@family
def denoising_autoencoder(seed):
    g = torch.Generator().manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 12, 2, stride=2),
        nn.ReLU(),
        nn.Conv2d(12, 1, 3, padding=1),
    )
    batches = [
        (x + 0.3 * torch.randn(x.shape, generator=g), x)
        for x in (part.view(-1, 1, 8, 8) for part in pixels(seed))
    ]
    return Training(model=model, batches=batches, loss=nn.MSELoss())
