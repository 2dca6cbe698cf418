"""Taps on every kind of module, and what they cannot see."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from plumbob.survey.stream.places import FUSED, LAZY, PACKED, SCRIPT, STRANGE
from tapping import (
    Texts,
    check,
    returned,
    taps_of,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_layouts_and_types(layout, dtype):
    model = nn.Sequential(nn.Conv2d(3, 5, 3)).to(dtype)
    x = (torch.randn(6, 3, 9, 9) + 20).to(dtype, memory_format=layout)
    expected = returned(model, {"0": 1}, [x])["0"]
    taps = taps_of(model)
    model(x)
    exact = dtype == torch.float64
    check(taps.collect().read()["0"].z, expected, 1e-12 if exact else 2e-6)


@pytest.mark.parametrize(
    ("module", "x", "axis"),
    [
        (nn.Conv1d(3, 4, 2), (5, 3, 7), 1),
        (nn.Conv3d(2, 4, 2), (3, 2, 4, 4, 4), 1),
        (nn.ConvTranspose1d(3, 4, 2), (5, 3, 7), 1),
        (nn.BatchNorm1d(4), (6, 4), 1),
        (nn.BatchNorm2d(4), (6, 4, 3, 3), 1),
        (nn.GroupNorm(2, 4), (6, 4, 3), 1),
        (nn.RMSNorm(4), (6, 3, 4), -1),
        (nn.Bilinear(3, 3, 4), None, None),
    ],
)
def test_kinds(module, x, axis):
    model = nn.Sequential(module)
    taps = taps_of(model)
    if x is None:
        assert taps.unseen == {"0": STRANGE}
        return
    batch = torch.randn(*x)
    expected = returned(model, {"0": axis}, [batch])["0"]
    model(batch)
    check(taps.collect().read()["0"].z, expected)


def test_norms_over_several_axes_and_bags():
    model = nn.ModuleDict({"n": nn.LayerNorm((3, 2)), "b": nn.EmbeddingBag(5, 4)})
    taps = taps_of(model)
    normed = model["n"](torch.randn(7, 3, 2) * 5)
    bagged = model["b"](torch.tensor([[1, 2], [3, 4]]))
    found = taps.collect().read()
    check(found["n"].z, normed.detach().double().reshape(7, 6).numpy())
    check(found["b"].z, bagged.detach().double().numpy())


def test_attention_is_seen_at_its_result_alone():
    model = Texts()
    taps = taps_of(model)
    x = torch.randint(0, 11, (4, 5))
    h = model.norm(model.embed(x))
    z = model.attend(h, h, h)[0].detach().double().reshape(-1, 8)
    check(taps.collect().read()["attend.out_proj"].z, z.numpy())
    assert taps.unseen == {"attend.in_proj_weight": PACKED}


def test_a_packed_or_nested_result_is_looked_into():
    class Pair(nn.Linear):
        def forward(self, x):
            return {"z": (pack_sequence([super().forward(x)]), None)}

    model = nn.Sequential(Pair(4, 3))
    taps = taps_of(model)
    x = torch.randn(6, 4)
    z = model(x)["z"][0].data
    check(taps.collect().read()["0"].z, z.detach().double().numpy())


def test_modules_that_cannot_be_seen_are_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3))
            self.norm = nn.LayerNorm(3)

    model = nn.ModuleDict({
        "lazy": nn.LazyLinear(3),
        "cell": nn.GRUCell(3, 3),
        "odd": Odd(),
        "normal": nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    })
    unseen = taps_of(model).unseen
    assert unseen["lazy"] == LAZY
    assert unseen["cell.weight_ih"] == FUSED
    assert "has parts" in unseen["odd"]
    assert "computed from other parameters" in unseen["normal"]


def test_a_map_that_is_the_whole_model_is_known():
    assert taps_of(nn.Linear(3, 2)).unseen == {}


def test_angles_are_no_embedding():
    class RotaryEmbedding(nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.register_buffer("table", torch.ones(shape))

    taps = taps_of(nn.Sequential(RotaryEmbedding((4,)), RotaryEmbedding((4, 2))))
    assert taps.unseen == {"1": STRANGE}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_script_takes_no_hooks():
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 3)), nn.Linear(3, 2))
    taps = taps_of(model)
    model(torch.randn(5, 4))
    assert set(taps.collect().read()) == {"1"}
    assert taps.unseen == {"0": SCRIPT}
