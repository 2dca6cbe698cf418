"""Random models with all that a mending meets: frozen, shared, hooked, parametrised."""

import torch
from torch import nn

import fixable_nets
import graphs
from fixing import mended
from nullity import randomised

MAPS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
DEPTH = 100  # a norm over few values, or over nearly equal ones, enlarges rounding


def frozen(draw, model):
    draw.choice(list(model.parameters())).requires_grad_(False)


def hooked(draw, model):
    draw.choice(list(model.modules())).register_forward_hook(lambda *_: None)


def shared(draw, model):
    maps = [m for m in model.modules() if isinstance(m, MAPS) and m.bias is not None]
    first = draw.choice(maps)
    for other in maps:
        if other is not first and other.bias.shape == first.bias.shape:
            other.bias = first.bias
            return


def parametrised(draw, model):
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    maps = [m for m in model.modules() if isinstance(m, MAPS)]
    free = [m for m in maps if not any(m.weight is table for table in tables)]
    nn.utils.parametrizations.weight_norm(draw.choice(free))


def dropped(draw, model):
    model.insert(draw.randrange(1, len(model)), nn.Dropout(0.5))


def bent(draw, model):
    kinds = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)
    model.insert(draw.randrange(1, len(model)), draw.choice(kinds)())


def halved(draw, model):
    model.bfloat16()


def nothing(draw, model):
    pass


def dead(draw, model):
    maps = [m for m in model.modules() if isinstance(m, MAPS) and m.bias is not None]
    m = draw.choice(maps)
    with torch.no_grad():
        m.weight[0], m.bias[0] = 0, draw.choice([-1.0, 0.0, 1.0])


def doubled(draw, model):
    maps = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    m = draw.choice([m for m in maps if len(m.weight) > 1])
    with torch.no_grad():
        for p in m.parameters():
            p[1] = p[0]


ODD = (frozen, hooked, shared, parametrised, dropped, bent, halved, dead, doubled)
SPOILS = (nothing, nothing, nothing, *ODD)


def fixed(draw):
    """Draw a model and fix it; return its data, what was done, and how."""
    home = draw.choice([graphs, fixable_nets, fixable_nets])
    model, x = home.drawn_by(draw)
    spoil = draw.choice(SPOILS)
    model = randomised(model).float().train(draw.random() < 0.5)
    spoil(draw, model)
    if draw.random() < 0.2:
        model = fixable_nets.named(draw, model)
    options = {
        "goal": draw.choice(["training", "inference"]),
        "mode": draw.choice(["drop", "zero"]),
    }
    if x.is_floating_point():
        x = x.to(next(model.parameters()).dtype)
    return x, mended(model, x, depth=DEPTH, **options), options
