import pytest
import torch
from torch import nn

from netting import seeded
from plumbob.rewrites.absorb_linear_unit import absorb_linear_unit
from rewriting import done, offers, refusals, settled


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=seeded(1))


def positive(activation=nn.ReLU):
    """Positive weights and biases after a sigmoid."""
    model = nn.Sequential(nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 6), activation())
    model[2].weight.data.abs_()
    model[2].bias.data.abs_()
    return model.append(nn.Linear(6, 2))


def test_a_relu_that_never_rests_goes():
    model = positive()
    mended = done(absorb_linear_unit, model, drawn(8, 4))
    assert isinstance(mended[3], nn.Identity)
    assert torch.equal(mended[2].weight, model[2].weight)
    assert settled(absorb_linear_unit, mended, drawn(8, 4))


def test_the_lowest_corner_decides():
    model = positive()
    model[2].weight.data[0] = -torch.arange(5.0)
    for bias, fits in ((10.0, True), (9.999, False)):
        model[2].bias.data[0] = bias
        assert bool(offers(absorb_linear_unit, model, drawn(8, 4))) is fits


def test_one_unit_that_rests_keeps_the_relu():
    model = positive()
    model[2].bias.data[3] = -1e-3
    model[2].weight.data[3] = 1e-4
    assert not offers(absorb_linear_unit, model, drawn(8, 4))


def test_a_frozen_norm_moves_the_bounds():
    model = positive()
    norm = nn.BatchNorm1d(6).eval()
    norm.running_mean.fill_(-1.0)
    model.insert(3, norm)
    assert offers(absorb_linear_unit, model, drawn(8, 4))
    norm.running_mean.fill_(8.0)
    assert not offers(absorb_linear_unit, model, drawn(8, 4))


def test_three_standard_deviations_are_no_proof():
    """What equalisation absorbs: the mean of a norm three times its gain."""
    norm = nn.BatchNorm1d(6)
    norm.bias.data.fill_(3.5)
    model = nn.Sequential(nn.Linear(4, 6), norm, nn.ReLU(), nn.Linear(6, 2)).eval()
    x = 0.1 * drawn(256, 4)
    assert (model[:2](x) > 0).all()
    assert not offers(absorb_linear_unit, model, x)


@pytest.mark.parametrize(
    "activation", [nn.ReLU6, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus]
)
def test_what_is_never_the_identity_stays(activation):
    assert not offers(absorb_linear_unit, positive(activation), drawn(8, 4))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(4, 4), nn.Linear(4, 2), nn.ReLU()

    def forward(self, x):
        return self.b(self.relu(self.relu(self.a(x)).sigmoid()))


def test_a_relu_that_is_called_twice_stays():
    (why,) = refusals(absorb_linear_unit, Twice(), drawn(8, 4))
    assert "called 2 times" in why


class Written(nn.Module):
    def forward(self, x):
        return x.sigmoid().relu()


def test_a_relu_of_the_forward_stays():
    model = nn.Sequential(nn.Linear(4, 4), Written())
    (why,) = refusals(absorb_linear_unit, model, drawn(8, 4))
    assert "does more than that" in why


def test_training_keeps_its_relus():
    assert not offers(absorb_linear_unit, positive(), drawn(8, 4), "training")
