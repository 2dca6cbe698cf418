"""Random models with all that a mending meets: frozen, shared, hooked, parametrised."""

from torch import nn

from fixing import mended
from graphs import drawn_by
from nullity import randomised

MAPS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


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
    maps = [m for m in model.modules() if isinstance(m, MAPS)]
    nn.utils.parametrizations.weight_norm(draw.choice(maps))


def dropped(draw, model):
    model.insert(draw.randrange(1, len(model)), nn.Dropout(0.5))


def bent(draw, model):
    kinds = (nn.ReLU, nn.ReLU6, nn.LeakyReLU)
    model.insert(draw.randrange(1, len(model)), draw.choice(kinds)())


def halved(draw, model):
    model.bfloat16()


def nothing(draw, model):
    pass


SPOILS = (nothing, nothing, frozen, hooked, shared, parametrised, dropped, bent, halved)


def fixed(draw):
    """Draw a model and fix it; return its data, what was done, and how."""
    model, x = drawn_by(draw)
    spoil = draw.choice(SPOILS)
    model = randomised(model).float().train(draw.random() < 0.5)
    spoil(draw, model)
    options = {
        "goal": draw.choice(["training", "inference"]),
        "mode": draw.choice(["drop", "zero"]),
    }
    x = x.to(next(model.parameters()).dtype)
    depth = sum(
        isinstance(m, (*MAPS, nn.modules.batchnorm._BatchNorm)) for m in model.modules()
    )
    return x, mended(model, x, depth=depth, **options), options
