import pytest
import torch
from torch import nn

import plumbob
from nets_redundancy import stacked_linear
from theorems import normals


def found(model, *data):
    return plumbob.check(model, data, select="PB310").findings


def test_the_finding():
    (finding,) = plumbob.check(**stacked_linear(leans=True), select="PB310").findings
    assert finding.site == "0"
    assert finding.evidence == {
        "wide": 16,
        "separate": 16 * 8 + 16 * 16,
        "merged": 8 * 16,
        "saved": 256,
    }


def pair(middle, between=None, **options):
    return nn.Sequential(
        nn.Linear(12, middle, **options),
        between or nn.Identity(),
        nn.Linear(middle, 10),
        nn.ReLU(),
    )


@pytest.mark.parametrize(
    ("between", "leans"),
    [
        (nn.Identity(), True),
        (nn.Dropout(0.1), True),
        (nn.Flatten(), True),
        (nn.ReLU(), False),
        (nn.GELU(), False),
        (nn.LayerNorm(12), False),
        (nn.BatchNorm1d(12), False),
        (nn.Hardshrink(), False),
        (nn.GLU(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_lies_between(between, leans):
    model = pair(12, between)
    if isinstance(between, nn.GLU):
        model[0] = nn.Linear(12, 24)
    assert bool(found(model, normals(6, 12))) is leans


@pytest.mark.parametrize(("middle", "leans"), [(9, False), (10, True), (40, True)])
def test_a_narrow_middle_is_a_rank(middle, leans):
    assert bool(found(pair(middle), normals(6, 12))) is leans


def test_without_biases_too():
    assert found(pair(12, bias=False), normals(6, 12))


class Read(nn.Module):
    """The middle is also returned, or used a second time."""

    def __init__(self, how):
        super().__init__()
        self.a, self.b, self.how = nn.Linear(8, 8), nn.Linear(8, 8), how

    def forward(self, x):
        z = self.a(x)
        if self.how == "returned":
            return self.b(z).relu(), z
        if self.how == "residual":
            return self.b(z).relu() + z
        if self.how == "gate":
            return self.b(z * x.sigmoid()).relu()
        if self.how == "shared":
            return self.b(self.a(z)).relu()
        return self.b(z.mT).relu()  # another axis


@pytest.mark.parametrize("how", ["returned", "residual", "gate", "shared"])
def test_not_where_the_middle_is_read_or_used_otherwise(how):
    assert not found(Read(how), normals(6, 8))


class Depthwise(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.space = nn.Conv2d(4, 4, 3, padding=1, **options)
        self.mix = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.mix(self.space(x)).relu()


def test_separable_convolutions_are_meant():
    assert not found(Depthwise(groups=4), torch.randn(2, 4, 6, 6))
    assert found(Depthwise(), torch.randn(2, 4, 6, 6))


def test_attention_lies_between_values_and_output():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    assert not found(layer.eval(), normals(2, 5, 16))
