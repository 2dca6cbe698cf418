"""The laws of every rewrite, on nets that hypothesis draws."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

import plumbob.rewrites
from nets import key_bias, mlp, seeded
from plumbob.design.drop_null_bias import drop_null_bias
from plumbob.design.redraw_units import redraw_units
from plumbob.design.rescale_units import rescale_units
from plumbob.design.set_bias import set_bias
from plumbob.design.shift_bias import shift_bias
from plumbob.mending.certify import certify
from plumbob.mending.fold_centring import fold_centring
from plumbob.remedies import layout
from plumbob.survey.trace import module_sites
from plumbob.survey.writable import writable
from plumbob.testing.rewrites import SPOILS, _never_half, _refuses, check_rewrite
from plumbob.types import Safety


def filled(model, seed=0):
    generator = seeded(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return model


def drawn(*shape, mean=0.0):
    return torch.randn(*shape, generator=seeded(1)) + mean


LAYERS = {
    "linear": (lambda: nn.Linear(3, 4), (5, 3)),
    "linear without bias": (lambda: nn.Linear(3, 4, bias=False), (5, 3)),
    "hugging face": (lambda: Conv1D(4, 3), (5, 3)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 4, padding=2, stride=2), (2, 3, 7)),
    "conv2d": (
        lambda: nn.Conv2d(4, 6, 3, padding=(0, 1), groups=2, dilation=2),
        (2, 4, 6, 6),
    ),
    "same": (lambda: nn.Conv2d(3, 4, 3, padding="same"), (2, 3, 4, 4)),
    "circular": (
        lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        (2, 3, 4, 4),
    ),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, padding=1), (2, 2, 3, 3, 3)),
    "unbatched": (lambda: nn.Conv1d(3, 4, 3, padding=1), (3, 7)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_fold_centring_keeps_the_laws(kind):
    build, shape = LAYERS[kind]
    layer = filled(build())
    features = getattr(layer, "in_channels", 3)
    mean = [3.0, 2.5, 4.0, 3.5][:features]
    check_rewrite(
        fold_centring,
        {"site": "0", "mean": mean},
        again={"site": "0", "mean": [0.0] * features},
        model=nn.Sequential(layer, nn.ReLU()),
        data=drawn(*shape, mean=3.0),
        writes=None if layer.bias is None else "0.bias",
    )


def test_fold_centring_keeps_the_laws_in_recurrent_layers():
    check_rewrite(
        fold_centring,
        {"site": "weight_ih_l0", "mean": [3.0, 1.0]},
        again={"site": "", "mean": [0.0, 0.0]},
        model=nn.LSTM(2, 3, bidirectional=True),
        data=drawn(4, 2, 2, mean=2.0),
        writes="bias_ih_l0_reverse",
    )


@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_any_recurrent_layer_can_be_centred(kind):
    act = partial(fold_centring, site="", mean=[3.0, -2.0])
    assert certify(kind(2, 3), act, drawn(4, 2)).holds


def test_drop_null_bias_keeps_the_laws_before_a_batch_norm():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model(drawn(8, 3, 5, 5))  # statistics that are not those of a new norm
    check_rewrite(
        drop_null_bias,
        {"parameter": "0.bias", "norm": "1"},
        model=filled(model),
        data=drawn(8, 3, 5, 5),
        writes="0.bias",
    )


def test_drop_null_bias_keeps_the_laws_in_attention():
    case = key_bias(leans=True)
    check_rewrite(
        drop_null_bias,
        {"parameter": "key.bias", "rows": (0, len(case["model"].key.bias))},
        model=case["model"],
        data=case["data"],
        writes="key.bias",
    )


@settings(max_examples=12, deadline=None)
@given(
    features=st.integers(1, 4),
    groups=st.integers(1, 2),
    tap=st.integers(1, 3),
    padding=st.integers(0, 2),
    stride=st.integers(1, 2),
    bias=st.booleans(),
    seed=st.integers(0, 99),
    mean=st.lists(st.floats(-100, 100), min_size=8, max_size=8),
)
def test_any_convolution_can_be_centred(
    features, groups, tap, padding, stride, bias, seed, mean
):
    width = features * groups
    conv = nn.Conv1d(
        width, 2 * groups, tap, padding=padding, stride=stride, groups=groups, bias=bias
    )
    model = nn.Sequential(filled(conv, seed), nn.Tanh(), nn.Dropout(0.3))
    act = partial(fold_centring, site="0", mean=mean[:width])
    assert certify(model, act, drawn(3, width, 5), seed=seed).holds


@settings(max_examples=8, deadline=None)
@given(
    out=st.integers(1, 5),
    momentum=st.sampled_from([0.1, 1.0, None]),
    tracked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_bias_before_a_batch_norm_can_be_dropped(out, momentum, tracked, seed):
    norm = nn.BatchNorm1d(out, momentum=momentum, track_running_stats=tracked)
    model = filled(nn.Sequential(nn.Linear(3, out), norm), seed)
    act = partial(drop_null_bias, parameter="0.bias", norm="1")
    assert certify(model, act, drawn(6, 3), seed=seed).holds


SITES = {s.name: layout(s) for s in module_sites(mlp(3, 4, 2))}


@pytest.mark.parametrize(
    ("act", "arguments", "writes"),
    [
        (set_bias, {"parameter": "0.bias", "units": (1,), "values": (2.0,)}, "0.bias"),
        (shift_bias, {"parameter": "0.bias", "units": (1,), "shift": (2.0,)}, "0.bias"),
        (
            rescale_units,
            {"site": SITES["0"], "units": (1, 2), "factors": (0.5, 2.0)},
            "0.bias",
        ),
        (redraw_units, {"site": SITES["0"], "rows": (1, 2), "sd": 1.0}, "0.weight"),
        (
            redraw_units,
            {
                "site": SITES["0"],
                "rows": (1,),
                "sd": 1.0,
                "columns": (1,),
                "readers": [SITES["2"]],
            },
            "2.weight",
        ),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_what_may_not_be_written_is_refused_and_nothing_is_done_by_half(
    act, arguments, writes
):
    model = filled(mlp(3, 4, 2))
    for what, spoil in SPOILS.items():
        spoiled = copy.deepcopy(model)
        spoil(spoiled, writes)
        _refuses(act, act.__name__, what, spoiled, arguments)
    _never_half(act, act.__name__, model, arguments)


def changes_the_function(model):
    with torch.no_grad():
        model[0].weight.mul_(1.001)


def counts(model):
    model.register_buffer("count", getattr(model, "count", torch.zeros(1)) + 1)


def refuses_nothing(model):
    model[0].bias = None


def does_half(model):
    if model[0].bias is not None:
        with torch.no_grad():
            writable(model, "0.bias").zero_()
            torch.zeros(1)
        model[0].bias = None


@pytest.mark.parametrize(
    ("act", "law"),
    [
        (changes_the_function, "changes the function"),
        (counts, "something the second time"),
        (refuses_nothing, "does not refuse a parameter that is shared"),
        (does_half, "half changed when operation"),
    ],
)
def test_a_law_that_is_broken_is_told(act, law):
    norm = nn.BatchNorm1d(2, track_running_stats=False)
    model = nn.Sequential(filled(nn.Linear(3, 2)), norm)
    case = {"model": model, "data": drawn(4, 3), "writes": "0.bias"}
    with pytest.raises(AssertionError, match="no section"):
        check_rewrite(act, {}, **case)
    act.__doc__ = drop_null_bias.__doc__
    with pytest.raises(AssertionError, match=law):
        check_rewrite(act, {}, **case)


def test_every_rewrite_states_its_identity():
    for module in (plumbob.design.drop_null_bias, plumbob.mending.fold_centring):
        assert "=" in module.__doc__


def test_nothing_is_certified_where_the_function_is_to_change():
    with pytest.raises(plumbob.InputError, match="nothing to certify"):
        certify(nn.Linear(2, 2), nn.Module.eval, drawn(3, 2), claim=Safety.MANUAL)
