import pytest
import torch
from torch import nn

from netting import seeded
from plumbob.rewrites.threshold_to_bias import threshold_to_bias
from rewriting import done, offers, refusals, settled


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=seeded(1))


HOW = {
    "above": lambda z, h: (z > h).to(z),
    "from": lambda z, h: (h <= z).to(z),
    "below": lambda z, h: (z < h).to(z),
    "taken off": lambda z, h: (z - h).relu(),
    "from it": lambda z, h: (h - z).relu(),
}


class Neurons(nn.Module):
    def __init__(self, how="above", *, bias=True, sizes=(4,), buffer=False):
        super().__init__()
        self.how, self.map = how, nn.Linear(3, 4, bias=bias)
        h = torch.randn(sizes, generator=seeded(2))
        if buffer:
            self.register_buffer("h", h)
        else:
            self.h = nn.Parameter(h)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(HOW[self.how](self.map(x), self.h))


@pytest.mark.parametrize(
    ("how", "bias", "sizes"),
    [
        ("above", True, (4,)),
        ("from", False, (4,)),
        ("below", True, ()),
        ("taken off", False, (1,)),
        ("from it", True, (1, 4)),
    ],
)
def test_a_threshold_is_a_bias(how, bias, sizes):
    model = Neurons(how, bias=bias, sizes=sizes)
    mended = done(threshold_to_bias, model, drawn(16, 3))
    b = model.map.bias.double() if bias else 0.0
    expected = (b - model.h.double().flatten()).float().expand(4)
    assert torch.equal(mended.map.bias, expected)
    assert not mended.h.any()
    assert not mended.h.requires_grad
    assert settled(threshold_to_bias, mended, drawn(16, 3))


def test_a_buffer_is_one_too():
    model = Neurons(buffer=True)
    mended = done(threshold_to_bias, model, drawn(16, 3))
    assert not mended.h.any()


def test_and_or_not():
    """McCulloch and Pitts' gates: h = 2 is and, h = 1 or, h = 0 with -1 not."""

    class Gates(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(2, 3, bias=False)
            self.map.weight.data = torch.tensor([[1.0, 1], [1, 1], [-1, 0]])
            self.h = nn.Parameter(torch.tensor([2.0, 1.0, 0.0]))

        def forward(self, x):
            return (self.map(x) >= self.h).to(x)

    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    table = [[0.0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 1, 0]]
    model = Gates()
    assert model(x).tolist() == table
    mended = done(threshold_to_bias, model, x)
    assert mended(x).tolist() == table
    assert mended.map.bias.tolist() == [-2.0, -1.0, 0.0]


class Elsewhere(Neurons):
    def forward(self, x):
        return super().forward(x) * self.h.sum()


class Between(Neurons):
    def forward(self, x):
        return self.out((self.map(x) > self.h).to(x) + self.map(x))


@pytest.mark.parametrize("kind", [Elsewhere, Between])
def test_a_threshold_or_map_that_does_more_stays(kind):
    assert not offers(threshold_to_bias, kind(), drawn(16, 3))


def test_one_number_per_sample_is_no_threshold():
    assert not offers(threshold_to_bias, Neurons(sizes=(16, 1)), drawn(16, 3))


def test_a_map_that_is_called_twice_keeps_its_threshold():
    class Twice(Neurons):
        def forward(self, x):
            return super().forward(x) + self.map(x).sum()

    (why,) = refusals(threshold_to_bias, Twice(), drawn(16, 3))
    assert "map.weight is used more than once" in why


def test_training_keeps_its_thresholds():
    assert not offers(threshold_to_bias, Neurons(), drawn(16, 3), "training")
