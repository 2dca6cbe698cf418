from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.weights import load, weigh
from plumbob.types import Feed, Site
from probing import agrees, close, seen, squared, traced


def feed(site, repeat=1):
    return (Feed(site=site, repeat=repeat),)


def linear(name, out, fan_in, **changes):
    facts = {"kind": "linear", "weight": f"{name}.weight", "bias": f"{name}.bias"}
    return Site(**{"name": name, "out": out, "fan_in": fan_in} | facts | changes)


def norm(name, out, fed_by, feeds):
    return linear(name, out, 1, kind="norm", fed_by=(fed_by,), feeds=feed(feeds))


def convs():
    """conv (8 channels) -> batch norm -> flatten 2x2 -> linear; channels 1 = 3."""
    torch.manual_seed(0)
    net = nn.ModuleDict({
        "a": nn.Conv2d(3, 8, 3),
        "n": nn.BatchNorm2d(8),
        "b": nn.Linear(32, 5),
    })
    with torch.no_grad():
        net["a"].weight[3], net["a"].bias[3] = net["a"].weight[1], net["a"].bias[1]
        columns = net["b"].weight.view(5, 8, 4)
        columns[:, 3] = columns[:, 1]
    sites = (
        linear("a", 8, 27, kind="conv", feeds=feed("b", 4)),
        norm("n", 8, "a", "b"),
        linear("b", 5, 32, fed_by=("a",), is_output=True),
    )
    return net, sites


def test_readers_through_a_norm_and_a_flattened_image():
    net, sites = convs()
    net["n"].weight.data[2] = 0.5
    _, rows, _ = weigh(net, sites)
    W = net["b"].weight.detach().double().numpy().reshape(5, 8, 4)
    gamma = net["n"].weight.detach().double().numpy()
    expected = np.sqrt((W**2).sum((0, 2))) * gamma
    assert rows["a"].outgoing == pytest.approx(expected, rel=1e-12)
    assert rows["a"].twin.tolist() == [0, 1, 2, 1, 4, 5, 6, 7]
    assert rows["a"].outgoing_twin.tolist() == [0, 1, 2, 1, 4, 5, 6, 7]
    assert rows["b"].outgoing is None


@pytest.mark.parametrize("what", ["weight", "bias"])
def test_a_norm_that_differs_parts_twins(what):
    net, sites = convs()
    getattr(net["n"], what).data[3] = 0.25
    _, rows, _ = weigh(net, sites)
    assert rows["a"].outgoing_twin.tolist() == list(range(8))


@pytest.mark.parametrize(
    ("changes", "known", "alike"),
    [
        ({}, True, True),
        ({"fed_by": ("a", "c")}, True, False),  # something else is added on the way
        ({"name": "other"}, False, False),  # the reader is unknown
    ],
)
def test_readers_that_are_not_known(changes, known, alike):
    net, sites = convs()
    last = linear(**{"name": "b", "out": 5, "fan_in": 32, "fed_by": ("a",)} | changes)
    _, rows, _ = weigh(net, (*sites[:2], last))
    assert (rows["a"].outgoing is not None) == known
    assert (rows["a"].outgoing_twin is not None) == alike


def test_mixed_units_and_outputs_have_no_readers():
    net, sites = convs()
    mixed = linear("a", 8, 27, kind="conv", feeds=feed("b", None))
    shown = linear("a", 8, 27, kind="conv", feeds=feed("b", 4), is_output=True)
    for site in (mixed, shown):
        assert weigh(net, (site, *sites[1:]))[1]["a"].outgoing is None


def test_transposed_sliced_and_grouped():
    net = nn.ParameterDict({
        "t": torch.randn(4, 6),
        "q": torch.randn(9, 4),
        "b": torch.randn(9),
    })
    g = nn.Conv2d(4, 4, 1, groups=4)
    nn.init.ones_(g.weight)
    nn.init.zeros_(g.bias)
    net = nn.ModuleDict({"p": net, "g": g})
    sites = (
        linear("t", 6, 4, weight="p.t", bias=None, transposed=True),
        linear("q", 3, 4, weight="p.q", bias="p.b", rows=(3, 6)),
        linear("g", 4, 1, kind="conv", groups=4),
    )
    _, rows, _ = weigh(net, sites)
    t, q = (net["p"][n].detach().double() for n in "tq")
    assert rows["t"].norm == pytest.approx(t.norm(dim=0).numpy())
    assert rows["q"].norm == pytest.approx(q[3:6].norm(dim=1).numpy())
    assert rows["q"].bias == pytest.approx(net["p"]["b"][3:6].detach().numpy())
    assert rows["g"].twin.tolist() == [0, 1, 2, 3]  # each reads its own channel


def test_what_is_not_weighed():
    net = nn.Module()
    net.ok = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    net.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    net.far = nn.Parameter(torch.ones(3, device="meta"))
    net.whole = nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False)
    net.turning = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    tensors, _, unseen = weigh(net, ())
    assert set(tensors) == {"ok", "frozen"}
    assert (tensors["ok"].mean, tensors["ok"].dtype) == (1, "bfloat16")
    assert not tensors["frozen"].trainable
    assert set(unseen) == {"far", "whole", "turning"}


def tied():
    net = nn.ModuleDict({
        "a": nn.Linear(4, 4),
        "b": nn.Linear(4, 4),
        "n": nn.BatchNorm1d(4),
    })
    net["b"].weight = net["a"].weight
    return net


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_load(dtype, device, tmp_path):
    torch.manual_seed(1)
    source, path = tied(), tmp_path / "x.safetensors"
    state = {k: v.detach().clone() for k, v in source.state_dict().items()}
    state.pop("b.weight")
    halves = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    save_file(halves, path)
    with torch.device(device):
        model = tied()
    load(model, path)
    for name, value in halves.items():
        mine = model.state_dict()[name]
        assert torch.equal(mine, value.to(mine.dtype))
        assert mine.dtype == source.state_dict()[name].dtype
    assert model["a"].weight is model["b"].weight
    assert isinstance(model["a"].weight, nn.Parameter)


def test_one_error_names_everything_that_does_not_fit(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"0.weigth": torch.ones(2, 3), "0.bias": torch.ones(3)}, path)
    model = nn.Sequential(nn.Linear(3, 2))
    before = model[0].bias.detach().clone()
    with pytest.raises(InputError) as error:
        load(model, path)
    message = str(error.value)
    assert "got 3 differences: '0.weight' is missing" in message
    assert "'0.weigth' is not in the model. Did you mean '0.weight'?" in message
    assert "'0.bias' has shape (3,), the model's (2,)" in message
    assert torch.equal(model[0].bias, before)


@pytest.mark.parametrize(("channels", "groups"), [(4, 4), (8, 2)])
def test_units_of_a_grouped_transposed_convolution(channels, groups):
    net = nn.ConvTranspose1d(8, channels, 4, groups=groups)
    site = linear("", channels, 8 // groups * 4, kind="conv-transpose", groups=groups)
    site = replace(site, weight="weight", bias="bias", transposed=True)
    _, rows, _ = weigh(net, (site,))
    W = net.weight.detach().double().reshape(groups, 8 // groups, channels // groups, 4)
    norm = W.square().sum((1, 3)).sqrt().reshape(-1)
    assert rows[""].norm == pytest.approx(norm.numpy(), rel=1e-12)


def test_a_transposed_tie_is_a_parameter_of_its_own():
    torch.manual_seed(0)
    encode, decode = nn.Linear(6, 3).double(), nn.Linear(3, 6).double()
    decode.weight = nn.Parameter(encode.weight.t())
    model = nn.Sequential(encode, nn.ReLU(), decode)
    x = torch.randn(8, 6).double()
    found = traced(model, x)
    assert [(s.weight, s.out, s.transposed) for s in found] == [
        ("0.weight", 3, False),
        ("2.weight", 6, False),
    ]
    _, rows, _ = weigh(model, found)
    for name, layer in (("0", encode), ("2", decode)):
        close(rows[name].norm, layer.weight.detach().norm(dim=1))
    probed = seen(model, (x, x), found=found, loss=squared)
    assert not probed.sites
    agrees(probed.readings["0"], x, encode.weight, encode.bias)
    agrees(probed.readings["2"], encode(x).relu(), decode.weight, decode.bias)
    squared(model(x), x).backward()
    for name, layer in (("0", encode), ("2", decode)):
        norms = layer.weight.grad.norm(dim=1)
        close(probed.readings[name].grad_weight, norms)


def test_a_file_may_hold_buffers_that_are_not_saved_any_more(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3))
    model.register_buffer("ids", torch.arange(3), persistent=False)
    state = {**model.state_dict(), "ids": torch.arange(3) + 7}
    state["0.bias"] = torch.ones(3)
    save_file(state, tmp_path / "w.safetensors")
    load(model, tmp_path / "w.safetensors")
    assert model[0].bias.tolist() == [1, 1, 1]
    assert model.ids.tolist() == [0, 1, 2]
    save_file({**state, "ids": torch.arange(4)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="'ids' has shape"):
        load(model, tmp_path / "w.safetensors")
