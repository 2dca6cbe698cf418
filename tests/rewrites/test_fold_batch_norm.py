"""Oracles: the model itself in float64, and the fold written out for a linear map."""

import copy

import pytest
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils import parametrize
from transformers.pytorch_utils import Conv1D

import plumbob
from netting import codes
from offering import change, done, drawn, offers, refusal
from plumbob.rewrites.fold_batch_norm import fold_batch_norm


class Chain(nn.Sequential):
    """Runs a list of modules and functions."""

    def __init__(self, *steps):
        super().__init__(*(s for s in steps if isinstance(s, nn.Module)))
        self.steps = [None if isinstance(s, nn.Module) else s for s in steps]

    def forward(self, x):
        modules = iter(self)
        for step in self.steps:
            x = next(modules)(x) if step is None else step(x)
        return x


def conv(pad="zeros", n=2, **more):
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[n - 1]
    return kind(4, 6, 3, padding=1, padding_mode=pad, **more)


BEFORE = {
    "linear": lambda: (nn.Linear(4, 6), 1, (5, 4)),
    "linear without bias": lambda: (nn.Linear(4, 6, bias=False), 1, (5, 4)),
    "hugging face": lambda: (Conv1D(6, 4), 1, (5, 4)),
    "conv1d": lambda: (conv(n=1, stride=2), 1, (2, 4, 7)),
    "circular": lambda: (conv("circular"), 2, (2, 4, 5, 5)),
    "reflect": lambda: (conv("reflect"), 2, (2, 4, 5, 5)),
    "replicate": lambda: (conv("replicate", bias=False), 2, (2, 4, 5, 5)),
    "grouped and dilated": lambda: (conv(groups=2, dilation=2), 2, (2, 4, 7, 7)),
    "channels last": lambda: (
        conv().to(memory_format=torch.channels_last),
        2,
        (2, 4, 5, 5),
    ),
    "conv3d": lambda: (conv(n=3), 3, (2, 4, 3, 3, 3)),
    "transposed": lambda: (nn.ConvTranspose1d(4, 6, 3), 1, (2, 4, 5)),
    "transposed and grouped": lambda: (
        nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, bias=False),
        2,
        (2, 4, 3, 3),
    ),
    "transposed in space": lambda: (
        nn.ConvTranspose3d(4, 6, 2, groups=2, dilation=2),
        3,
        (2, 4, 2, 2, 2),
    ),
}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


PLAIN = {"linear without bias", "conv1d", "transposed"}  # norms without parameters


@pytest.mark.parametrize("kind", BEFORE)
def test_a_norm_goes_into_the_map_before_it(kind):
    layer, n, sizes = BEFORE[kind]()
    model, x = drawn(
        nn.Sequential(layer, NORMS[n](6, affine=kind not in PLAIN), nn.Tanh()), *sizes
    )
    before = copy.deepcopy(model.state_dict())
    mended, proof = done(fold_batch_norm, model, x)
    assert type(mended[1]) is nn.Identity
    assert mended[0].bias is not None
    assert change(model, mended, x) < 1e-14
    assert proof.holds
    assert proof.precise
    assert proof.identity_ulps < 64
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert offers(fold_batch_norm, mended, x) == []


def test_the_fold_is_the_one_that_is_known():
    model, x = drawn(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), 5, 4)
    layer, norm = model
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    mended, _ = done(fold_batch_norm, model, x)
    torch.testing.assert_close(mended[0].weight, scale[:, None] * layer.weight)
    bias = scale * (layer.bias - norm.running_mean) + norm.bias
    torch.testing.assert_close(mended[0].bias, bias)


def test_axes_may_be_moved_on_the_way_to_the_norm():
    def turned(x):
        return x.transpose(1, 2)

    model, x = drawn(Chain(nn.Linear(4, 6), turned, nn.BatchNorm1d(6)), 2, 3, 4)
    mended, _ = done(fold_batch_norm, model, x)
    assert change(model, mended, x) < 1e-14


def flat(x):
    return x.flatten(1)


def pooled(x):
    return x.mean((2, 3))


def steps(x):
    return x.transpose(1, 2)


AFTER = {
    "linear": lambda: ([nn.BatchNorm1d(4), nn.Linear(4, 3, bias=False)], (5, 4)),
    "no padding": lambda: ([nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2)], IMAGES),
    "circular": lambda: ([nn.BatchNorm2d(4), conv("circular", groups=2)], IMAGES),
    "reflect": lambda: ([nn.BatchNorm2d(4), conv("reflect")], IMAGES),
    "replicate": lambda: ([nn.BatchNorm2d(4), conv("replicate")], IMAGES),
    "flat": lambda: ([nn.BatchNorm2d(4), flat, nn.Linear(100, 3)], IMAGES),
    "pooled": lambda: ([nn.BatchNorm2d(4), pooled, nn.Linear(4, 3)], IMAGES),
    "dropout": lambda: (
        [nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)],
        (5, 4),
    ),
    "steps": lambda: ([nn.BatchNorm1d(4), steps, nn.Linear(4, 3)], (2, 4, 6)),
}
IMAGES = (2, 4, 5, 5)


@pytest.mark.parametrize("kind", AFTER)
def test_a_norm_goes_into_the_map_after_it(kind):
    parts, sizes = AFTER[kind]()
    model, x = drawn(Chain(nn.Tanh(), *parts), *sizes)
    mended, proof = done(fold_batch_norm, model, x)
    assert type(mended[1]) is nn.Identity
    assert change(model, mended, x) < 1e-14
    assert proof.identity_ulps < 64


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.cell = nn.LSTM(3, 4, bidirectional=True, batch_first=True)

    def forward(self, x):
        return self.cell(self.norm(x).transpose(1, 2))[0]


def test_a_norm_goes_into_an_lstm():
    model, x = drawn(Recurrent(), 2, 3, 5)
    mended, proof = done(fold_batch_norm, model, x)
    assert type(mended.norm) is nn.Identity
    assert proof.holds
    assert change(model, mended, x) < 1e-14


class Split(nn.Module):
    """Two maps read one norm; one of them is followed by a norm of its own."""

    def __init__(self):
        super().__init__()
        self.norm, self.last = nn.BatchNorm1d(4), nn.BatchNorm1d(3)
        self.one, self.two = nn.Linear(4, 3, bias=False), nn.Linear(4, 3)

    def forward(self, x):
        x = self.norm(x.tanh())
        return self.last(self.one(x)).relu() + self.two(x)


def test_all_maps_after_a_norm_take_it_and_folds_meet_in_one_map():
    model, x = drawn(Split(), 5, 4)
    mended, proof = done(fold_batch_norm, model, x)
    assert proof.places == ("norm", "last")
    assert proof.added == ("one.bias",)
    assert change(model, mended, x) < 1e-14


class Twice(nn.Module):
    """A convolution that is called twice, once without the norm."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.norm(self.conv(x)).relu())


def test_a_conv_called_twice_is_refused_which_fx_fuse_gets_wrong():
    model, x = drawn(Twice(), 2, 3, 4, 4)
    assert "conv.weight is used more than once" in refusal(fold_batch_norm, model, x)
    assert change(model, fuse(model), x) > 0.1


class Norms(nn.Module):
    """A map and a norm that are used in all the ways in which they must not be."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.map, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4, track_running_stats=how != "of the batch")
        if how == "shared":
            self.other.weight = self.map.weight

    def forward(self, x):
        z = self.map(x)
        y = self.norm(z).relu()
        if self.how == "returned":
            return y, z
        if self.how == "added":
            return y + z
        if self.how == "norm twice":
            return self.norm(y)
        if self.how == "gain read":
            return y * self.norm.weight
        return self.other(y)


REFUSED = {
    "returned": "what it reads goes to the output too",
    "added": "what it reads goes to a add too",
    "norm twice": "norm is called 2 times",
    "of the batch": "no batch norm with statistics of its own",
    "shared": "shared with other.weight",
}


@pytest.mark.parametrize("how", REFUSED)
def test_refused(how):
    model, x = drawn(Norms(how), 5, 4)
    assert REFUSED[how] in offers(fold_batch_norm, model, x)[0].why


def test_a_norm_whose_gain_is_read_elsewhere_is_refused_by_its_certificate():
    model, x = drawn(Norms("gain read"), 5, 4)
    with pytest.raises(AssertionError, match="no attribute 'weight'"):
        done(fold_batch_norm, model, x)


def test_a_parametrised_map_is_refused():
    model, x = drawn(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), 5, 4)
    parametrize.register_parametrization(model[0], "weight", nn.Identity())
    assert "is parametrised" in refusal(fold_batch_norm, model, x)


@pytest.mark.parametrize("place", ["0", "0.0", "1"])
def test_hooks_are_refused(place):
    block = nn.Sequential(nn.Linear(4, 6))
    model, x = drawn(nn.Sequential(block, nn.BatchNorm1d(6)), 5, 4)
    model.get_submodule(place).register_forward_hook(lambda *_: None)
    assert "has hooks" in refusal(fold_batch_norm, model, x)


class NormAct(nn.BatchNorm1d):
    """A norm that does more."""

    def forward(self, x):
        return super().forward(x).relu()


def test_a_norm_that_does_more_is_refused():
    model, x = drawn(nn.Sequential(nn.Linear(4, 6), NormAct(6)), 5, 4)
    assert "does more than that" in refusal(fold_batch_norm, model, x)


@pytest.mark.parametrize("layer", [conv(), nn.ConvTranspose2d(4, 6, 1)])
def test_a_map_after_it_that_reads_zeros_at_its_border_is_refused(layer):
    model, x = drawn(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4), layer), *IMAGES)
    assert "zeros (or fewer values) at its border" in refusal(fold_batch_norm, model, x)


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_what_the_model_pads_with_is_at_the_border_too(value):
    def padded(x):
        return nn.functional.pad(x, (1, 1, 1, 1), value=value)

    parts = (nn.ReLU(), nn.BatchNorm2d(4), padded, nn.Conv2d(4, 6, 3))
    model, x = drawn(Chain(*parts), *IMAGES)
    assert "zeros (or fewer values) at its border" in refusal(fold_batch_norm, model, x)


def test_nothing_is_said_of_a_norm_that_no_map_is_beside_nor_in_training():
    parts = (nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.ReLU())
    model, x = drawn(nn.Sequential(*parts), 5, 4)
    assert offers(fold_batch_norm, model, x) == []
    model, x = drawn(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), 5, 4)
    assert offers(fold_batch_norm, model, x, goal="training") == []


def test_after_fix_check_is_silent():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    x = torch.randn(8, 3, 6, 6)
    model(x)
    fixed, proof = plumbob.fix(model.eval(), x)
    assert [c.rewrite for c in proof.certificates] == ["fold-batch-norm"]
    assert "PB312" in codes({"model": model, "data": x, "stage": "trained"})
    assert "PB312" not in codes({"model": fixed, "data": x, "stage": "trained"})
    assert offers(fold_batch_norm, fixed, x) == []
