"""Oracle: the model itself in float64, and the fold written out for a linear map."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from offering import change, done, drawn, offers, refusal
from plumbob.rewrites.absorb_input_statistics import absorb_input_statistics


class Normalise(nn.Module):
    """(x - mean) / std, in buffers."""

    def __init__(self, *sizes):
        super().__init__()
        self.register_buffer("mean", torch.zeros(sizes))
        self.register_buffer("std", torch.ones(sizes))

    def forward(self, x):
        return (x - self.mean) / self.std


class Numbers(nn.Module):
    """In place, with numbers that are no buffers."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x):
        x = x.clone()
        mean = torch.as_tensor(self.mean, dtype=x.dtype).view(-1, 1, 1)
        std = torch.as_tensor(self.std, dtype=x.dtype).view(-1, 1, 1)
        return x.sub_(mean).div_(std)


class TwoMaps(nn.Module):
    """Two maps read what is standardised; the first of them has no bias."""

    def __init__(self):
        super().__init__()
        self.scale = Normalise(3)
        self.one, self.two = nn.Linear(3, 4, bias=False), nn.Linear(3, 4)

    def forward(self, x):
        x = self.scale(x)
        return self.one(x).tanh() * self.two(x)


IMAGES = (2, 3, 5, 5)


def circular():
    return nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")


MODELS = {
    "linear": lambda: (nn.Sequential(Normalise(3), nn.Linear(3, 4)), (5, 3)),
    "steps": lambda: (nn.Sequential(Normalise(3), nn.LSTM(3, 4)), (2, 5, 3)),
    "two": lambda: (TwoMaps(), (5, 3)),
    "conv": lambda: (
        nn.Sequential(Normalise(3, 1, 1), nn.Conv2d(3, 6, 3, groups=3)),
        IMAGES,
    ),
    "circular": lambda: (nn.Sequential(Normalise(3, 1, 1), circular()), IMAGES),
    "one number": lambda: (nn.Sequential(Normalise(1), nn.Conv2d(3, 4, 3)), IMAGES),
    "flat": lambda: (
        nn.Sequential(Normalise(3, 1, 1), nn.Flatten(), nn.Linear(75, 4)),
        IMAGES,
    ),
    "flat, of one channel": lambda: (
        nn.Sequential(Normalise(1), nn.Flatten(), nn.Linear(25, 4)),
        (2, 1, 5, 5),
    ),
    "numbers": lambda: (
        nn.Sequential(Numbers([1.0, 2, 3], [0.5, 4, 5]), nn.Conv2d(3, 4, 3)),
        IMAGES,
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_first_maps_take_the_statistics(kind):
    build, sizes = MODELS[kind]()
    model, x = drawn(build, *sizes)
    mended, proof = done(absorb_input_statistics, model, x)
    assert type(next(mended.children())) is nn.Identity
    assert change(model, mended, x) < 1e-14
    assert proof.identity_ulps < 64
    assert offers(absorb_input_statistics, mended, x) == []


def test_the_fold_is_the_one_that_is_known():
    model, x = drawn(nn.Sequential(Normalise(3), nn.Linear(3, 4)), 5, 3)
    scale, layer = model
    mended, _ = done(absorb_input_statistics, model, x)
    weight = layer.weight / scale.std
    torch.testing.assert_close(mended[1].weight, weight)
    torch.testing.assert_close(mended[1].bias, layer.bias - weight @ scale.mean)


def test_a_scale_keeps_its_digits_beside_a_large_mean():
    model, x = drawn(nn.Sequential(Normalise(3), nn.Linear(3, 4)), 50, 3)
    model[0].mean.fill_(1e5)
    offers(absorb_input_statistics, model, 1e5 + x)[0].act(mended := deepcopy(model))
    weight = model[1].weight / model[0].std
    torch.testing.assert_close(mended[1].weight, weight, rtol=1e-14, atol=0)


def test_where_x_and_the_mean_nearly_cancel_float32_is_refused():
    model, x = drawn(nn.Sequential(Normalise(3), nn.Linear(3, 4)), 50, 3)
    model[0].mean.fill_(1e5)
    with pytest.raises(AssertionError, match="it rounds too coarsely"):
        done(absorb_input_statistics, model, 1e5 + x)


REFUSED = {
    "zeros at the border": (
        lambda: nn.Sequential(Normalise(3, 1, 1), nn.Conv2d(3, 4, 3, padding=1)),
        "pads the standardised input with zeros",
    ),
    "one mean per place": (
        lambda: nn.Sequential(Normalise(3, 5, 5), nn.Conv2d(3, 4, 3)),
        "differs within a channel",
    ),
    "read by others": (
        lambda: nn.Sequential(Normalise(3, 1, 1), nn.ReLU()),
        "a relu reads it",
    ),
    "another shape": (
        lambda: nn.Sequential(Normalise(1, 3, 1, 1), nn.Conv2d(3, 4, 3)),
        "changes the shape",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    build, why = REFUSED[kind]
    sizes = IMAGES[1:] if kind == "another shape" else IMAGES
    model, x = drawn(build(), *sizes)
    assert why in refusal(absorb_input_statistics, model, x)


def test_a_shared_first_map_is_refused():
    model, x = drawn(
        nn.Sequential(Normalise(3), nn.Linear(3, 3), nn.Linear(3, 3)), 5, 3
    )
    model[2].weight = model[1].weight
    assert "shared with 2.weight" in refusal(absorb_input_statistics, model, x)


class Own(nn.Module):
    """The forward itself standardises, or what it subtracts is the input's own."""

    def __init__(self, how):
        super().__init__()
        self.how, self.map, self.scale = how, nn.Linear(3, 4), Normalise(3)

    def forward(self, x):
        if self.how == "hidden":
            return self.scale(self.map(x)[:, :3])
        return self.map(x - 1 if self.how == "forward" else x - x.mean())


@pytest.mark.parametrize("how", ["forward", "hidden", "its own mean"])
def test_nothing_is_said_of(how):
    model, x = drawn(Own(how), 5, 3)
    assert offers(absorb_input_statistics, model, x) == []


def test_in_training_nothing_is_done():
    model, x = drawn(nn.Sequential(Normalise(3), nn.Linear(3, 4)), 5, 3)
    assert offers(absorb_input_statistics, model, x, goal="training") == []


class Steady(nn.Module):
    """It only copies."""

    def forward(self, x):
        return x.clone()


def test_a_module_that_changes_no_number_is_left():
    model, x = drawn(nn.Sequential(Steady(), nn.Linear(3, 4)), 5, 3)
    assert offers(absorb_input_statistics, model, x) == []
