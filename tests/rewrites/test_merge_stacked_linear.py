import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from nets_redundancy import stacked_linear
from netting import codes, seeded
from plumbob.rewrites.merge_stacked_linear import merge_stacked_linear
from rewriting import done, offers, refusals, settled


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=seeded(1))


def filled(model):
    for p in model.parameters():
        nn.init.normal_(p, std=0.5)
    return model


def pair(one, two, *between):
    return filled(nn.Sequential(one, *between, two, nn.Tanh()))


class Last(nn.Module):
    """Channels last, as where patches become tokens."""

    def forward(self, x):
        return x.flatten(2).transpose(1, 2)


IMAGE, SEQUENCE = (3, 2, 7, 7), (3, 2, 9)
CASES = {
    "linear": (lambda: (nn.Linear(4, 6), nn.Linear(6, 3)), (5, 4), 0),
    "dropout": (lambda: (nn.Linear(4, 6), nn.Dropout(), nn.Linear(6, 3)), (5, 4), 0),
    "hugging face": (lambda: (Conv1D(6, 4), Conv1D(3, 6)), (5, 2, 4), 0),
    "mixed": (lambda: (Conv1D(6, 4), nn.Linear(6, 3, bias=False)), (5, 4), 0),
    "one tap after": (
        lambda: (nn.Conv2d(2, 5, 3, 2, padding=1), nn.Conv2d(5, 4, 1)),
        IMAGE,
        0,
    ),
    "one tap before": (lambda: (nn.Conv2d(2, 5, 1), nn.Conv2d(5, 2, 3)), IMAGE, 1),
    "before padding": (
        lambda: (nn.Conv2d(2, 5, 1, bias=False), nn.Conv2d(5, 2, 3, padding=1)),
        IMAGE,
        1,
    ),
    "turned before": (
        lambda: (nn.ConvTranspose1d(2, 5, 3, stride=2), nn.Conv1d(5, 4, 1)),
        SEQUENCE,
        0,
    ),
    "turned after": (
        lambda: (nn.Conv1d(2, 5, 1, bias=False), nn.ConvTranspose1d(5, 2, 3, 2)),
        SEQUENCE,
        1,
    ),
    "tokens": (lambda: (nn.Conv2d(2, 6, 2, 2), Last(), nn.Linear(6, 3)), IMAGE, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_one_map_does_for_two(case):
    build, shape, place = CASES[case]
    model = filled(nn.Sequential(*build(), nn.Tanh()))
    mended = done(merge_stacked_linear, model, drawn(*shape))
    last = len(model) - 2
    kept, gone = (mended[0], mended[last]) if place == 0 else (mended[last], mended[0])
    assert isinstance(gone, nn.Identity)
    assert type(kept) is type(model[0] if place == 0 else model[last])
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, mended)]
    assert sizes[1] < sizes[0]


def test_the_product_by_hand():
    model = pair(nn.Linear(4, 6), nn.Linear(6, 3))
    mended = done(merge_stacked_linear, model, drawn(5, 4))
    assert settled(merge_stacked_linear, mended, drawn(5, 4))
    w, b, v, c = (p.double() for p in model.parameters())
    assert torch.equal(mended[0].weight, (v @ w).float())
    torch.testing.assert_close(mended[0].bias, (v @ b + c).float(), rtol=1e-6, atol=0)


NOT = {
    "a bend": (lambda: (nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), (5, 4)),
    "a bottleneck": (lambda: (nn.Linear(4, 2), nn.Linear(2, 3)), (5, 4)),
    "taps": (lambda: (nn.Conv2d(2, 5, 3), nn.Conv2d(5, 4, 3)), IMAGE),
    "a stride": (lambda: (nn.Conv2d(2, 5, 3), nn.Conv2d(5, 2, 1, 2)), IMAGE),
    "a bias beside zeros": (
        lambda: (nn.Conv2d(2, 5, 1), nn.Conv2d(5, 2, 3, padding=1)),
        IMAGE,
    ),
    "a border of bias": (
        lambda: (nn.Conv2d(2, 5, 3), nn.Conv2d(5, 2, 1, padding=1)),
        IMAGE,
    ),
    "growth": (lambda: (nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 7)), (3, 2, 7, 7)),
    "groups": (lambda: (nn.Conv2d(2, 6, 3), nn.Conv2d(6, 2, 1, groups=2)), IMAGE),
    "flattening": (
        lambda: (nn.Conv1d(2, 3, 1), nn.Flatten(), nn.Linear(27, 2)),
        SEQUENCE,
    ),
}


@pytest.mark.parametrize("case", sorted(NOT.keys() - {"growth"}))
def test_these_are_two_maps(case):
    build, shape = NOT[case]
    model = filled(nn.Sequential(*build(), nn.Tanh()))
    assert not offers(merge_stacked_linear, model, drawn(*shape))


def test_weights_do_not_grow():
    taps, wide = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 3, 3)
    model = nn.Sequential(taps, wide, nn.Tanh())
    assert not offers(merge_stacked_linear, model, drawn(2, 8, 5, 5))


def test_three_become_one_in_turns():
    model = filled(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 2)))
    for last in ("Linear", "Identity"):
        model = done(merge_stacked_linear, model, drawn(6, 4))
        assert [type(m).__name__ for m in model] == ["Linear", "Identity", last]


class Odd(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.a, self.b = how, nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        h = self.a(x)
        if self.how == "called twice":
            return self.b(self.b(h).relu())
        if self.how == "returned":
            return self.b(h), h
        if self.how == "not called":
            return nn.functional.linear(h, self.b.weight, self.b.bias)
        return self.b(h)


@pytest.mark.parametrize("how", ["called twice", "returned"])
def test_maps_that_others_use_stay(how):
    assert not offers(merge_stacked_linear, Odd(how), drawn(6, 4))


def test_a_weight_that_is_read_from_outside_stays():
    (why,) = refusals(merge_stacked_linear, Odd("not called"), drawn(6, 4))
    assert "no module of its own" in why


def test_hooks_see_the_middle():
    model = Odd("")
    model.b.register_forward_pre_hook(lambda *_: None)
    (why,) = refusals(merge_stacked_linear, model, drawn(6, 4))
    assert "b has hooks" in why


def test_check_has_no_more_to_say():
    case = stacked_linear(leans=True)
    mended = done(merge_stacked_linear, case["model"], case["data"])
    assert "PB310" not in codes(case | {"model": mended})
