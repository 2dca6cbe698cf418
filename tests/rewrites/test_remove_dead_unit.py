import pytest
import torch
from torch import nn
from torch.nn import functional as f
from transformers.pytorch_utils import Conv1D

from nets_redundancy import proved_dead_unit
from netting import codes, seeded
from plumbob.mending.certify import certify
from plumbob.rewrites.remove_dead_unit import remove_dead_unit
from plumbob.types import Safety
from rewriting import done, offers, planned, refusals, settled


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=seeded(1))


def sunk(model, layer, units, by=60.0):
    """Push units of a layer far below zero."""
    with torch.no_grad():
        model[layer].bias[units] = -by
    return model


def after_norm(activation=nn.ReLU):
    layers = nn.LayerNorm(6), nn.Linear(6, 5), activation(), nn.Linear(5, 3)
    return sunk(nn.Sequential(*layers), 1, [1, 3])


def test_units_below_a_layer_norms_reach_go():
    model = after_norm()
    mended = done(remove_dead_unit, model, drawn(8, 6))
    kept = [0, 2, 4]
    assert torch.equal(mended[1].weight, model[1].weight[kept])
    assert torch.equal(mended[1].bias, model[1].bias[kept])
    assert torch.equal(mended[3].weight, model[3].weight[:, kept])
    assert torch.equal(mended[3].bias, model[3].bias)
    assert (mended[1].out_features, mended[3].in_features) == (3, 3)
    assert settled(remove_dead_unit, mended, drawn(8, 6))


def test_one_bias_more_or_less_decides():
    norm = nn.LayerNorm(4)
    model = nn.Sequential(norm, nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
    model[1].weight.data.fill_(0.5)
    reach = 4 * 0.5 * 3**0.5
    model[1].bias.data = torch.tensor([-reach - 1e-3, -reach + 1e-3])
    (offer,) = offers(remove_dead_unit, model, drawn(8, 4))
    assert "units [0] of 1" in offer.steps[0]


@pytest.mark.parametrize("activation", [nn.GELU, nn.LeakyReLU, nn.SiLU, nn.ELU])
def test_only_what_is_cut_off_at_zero_dies(activation):
    assert not offers(remove_dead_unit, after_norm(activation), drawn(8, 6))


def test_a_relu6_below_zero_is_zero():
    assert (
        done(remove_dead_unit, after_norm(nn.ReLU6), drawn(8, 6))[1].out_features == 3
    )


def test_dead_on_all_data_is_no_proof():
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x = drawn(256, 6)
    sunk(model, 0, [1], 1e3)
    assert not model[:2](x)[:, 1].any()
    assert not offers(remove_dead_unit, model, x)


def test_training_keeps_its_units():
    assert not offers(remove_dead_unit, after_norm(), drawn(8, 6), "training")


def test_a_unit_without_weights_is_a_bias():
    model = nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2, bias=False))
    model[0].weight.data[2] = 0
    model[0].bias.data[2] = 0.7
    mended = done(remove_dead_unit, model, drawn(8, 4))
    c = f.gelu(model[0].bias[2].double())
    expected = (model[2].weight[:, 2].double() * c).float()
    assert torch.equal(mended[2].bias, expected)
    assert mended[0].out_features == 2


def convs(padding, mode="zeros", bias=0.5):
    """Channel 1 has no weights, channel 2 no gain in its norm."""
    reader = nn.Conv2d(4, 3, 3, padding=padding, padding_mode=mode)
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.MaxPool2d(2), reader)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    with torch.no_grad():
        model[0].weight[1] = 0
        norm.bias[1] = 3 + bias
        norm.weight[2] = 0
        norm.bias[2] = -0.5
    return model


X = (4, 2, 8, 8)


def test_a_norm_between_shrinks_too():
    model = convs(0)
    mended = done(remove_dead_unit, model, drawn(*X))
    norm = mended[1]
    assert norm.num_features == len(norm.running_var) == len(norm.weight) == 2
    assert torch.equal(norm.running_mean, model[1].running_mean[[0, 3]])
    assert (mended[0].out_channels, mended[4].in_channels) == (2, 2)
    b, m, v = (
        model[0].bias[1].double(),
        *(t[1].double() for t in (model[1].running_mean, model[1].running_var)),
    )
    c = ((b - m) / (v + 1e-5).sqrt() + model[1].bias[1].double()).relu()
    more = c * model[4].weight[:, 1].double().sum((1, 2))
    bias = (model[4].bias.double() + more).float()
    torch.testing.assert_close(mended[4].bias, bias, rtol=0, atol=1e-6)


def test_a_constant_beside_padded_zeros_is_no_bias():
    x = drawn(*X)
    places = list(remove_dead_unit(planned(convs(1), x)))
    assert [type(place).__name__ for place in places] == ["Refusal", "Offer"]
    assert "units [1]" in places[0].why
    assert "units [2]" in places[1].steps[0]


def test_other_paddings_repeat_the_constant():
    assert done(remove_dead_unit, convs(1, "circular"), drawn(*X))[0].out_channels == 2


def test_flattened_channels_take_their_columns_along():
    model = nn.Sequential(
        nn.Conv1d(2, 3, 1), nn.Sigmoid(), nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Flatten()
    )
    model.extend([nn.BatchNorm1d(20), nn.Linear(20, 2)])
    model[2].bias.data = torch.tensor([1.0, 1.0, -60.0, 1.0])
    model[5].running_mean = torch.tensor([3.0, -1.0, 0.5, 2.0]).repeat_interleave(5)
    mended = done(remove_dead_unit, model, drawn(6, 2, 5))
    assert mended[5].num_features == mended[6].in_features == 15
    kept = [*range(10), *range(15, 20)]
    assert torch.equal(mended[6].weight, model[6].weight[:, kept])


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.a = nn.LayerNorm(6), Conv1D(4, 6)
        self.b, self.c = nn.Linear(4, 2), Conv1D(2, 4)
        nn.init.normal_(self.a.weight)
        self.a.bias.data[0] = -90

    def forward(self, x):
        h = self.a(self.norm(x)).relu()
        return self.b(h) + self.c(h)


def test_two_readers_and_hugging_face():
    mended = done(remove_dead_unit, Two(), drawn(8, 6))
    shapes = [tuple(m.weight.shape) for m in (mended.a, mended.b, mended.c)]
    assert shapes == [(6, 3), (2, 3), (3, 2)]
    assert (mended.a.nf, mended.c.nx) == (3, 3)


def test_a_dead_layer_keeps_one_unit():
    model = sunk(after_norm(), 1, [0, 1, 2, 3, 4])
    mended = done(remove_dead_unit, model, drawn(8, 6))
    assert mended[1].out_features == 1
    assert settled(remove_dead_unit, mended, drawn(8, 6))


class Residual(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.norm = how, nn.LayerNorm(6)
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.a.bias.data[0] = -90

    def forward(self, x):
        h = self.a(self.norm(x)).relu()
        if self.how == "called twice":
            h = self.a(self.norm(h)).relu()
        z = self.b(h)
        if self.how == "shared reader":
            z = z + self.b(h.flip(0))
        if self.how == "returned":
            return z, h
        return z + h if self.how == "residual" else z


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("residual", "read by add"),
        ("returned", "read by the caller"),
        ("called twice", "a.weight is used more than once"),
        ("shared reader", "b.weight is used more than once"),
    ],
)
def test_units_that_others_see_stay(how, said):
    (why, *_) = refusals(remove_dead_unit, Residual(how), drawn(8, 6))
    assert said in why


def test_hooks_see_units():
    model = after_norm()
    model[2].register_forward_hook(lambda *_: None)
    (why,) = refusals(remove_dead_unit, model, drawn(8, 6))
    assert "2 has hooks" in why


def test_a_tied_weight_stays():
    model = after_norm()
    model[0].other = model[1].bias
    (why,) = refusals(remove_dead_unit, model, drawn(8, 6))
    assert "shared" in why


def test_check_has_no_more_to_say():
    case = proved_dead_unit(leans=True)
    mended = done(remove_dead_unit, case["model"], case["data"])
    assert "PB314" not in codes(case | {"model": mended})


def test_at_random_values_the_unit_would_live():
    """So the certificate leaves alone what the proof rests on, and only that."""
    model = sunk(after_norm(), 1, [1, 3], by=12.0)
    (offer,) = offers(remove_dead_unit, model, drawn(8, 6))
    assert offer.kept == {"0.weight", "0.bias", "1.weight", "1.bias"}
    claim = {"claim": Safety.EVAL_ONLY, "probes": 8}
    with_kept = certify(model, offer.act, drawn(8, 6), kept=offer.kept, **claim)
    assert with_kept.holds
    model[1].bias.data[1] = 12.0
    assert not certify(model, offer.act, drawn(8, 6), kept=offer.kept, **claim).holds
