"""Taps in eager and in compiled models, against float64 numbers of the modules."""

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from plumbob.survey.stream.places import FUSED
from plumbob.survey.stream.units import LATE
from tapping import (
    COMPILE,
    HOW,
    Checkpointed,
    Images,
    Shared,
    Texts,
    check,
    mlp,
    returned,
    taps_of,
)


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def rows_in(*shape):
    return [torch.randn(*shape) + 3 for _ in range(3)]


CASES = {
    "mlp": (mlp, {"0": -1, "2": -1}, partial(rows_in, 40, 6)),
    "unbatched": (mlp, {"0": -1, "2": -1}, partial(rows_in, 6)),
    "images": (
        Images,
        {"one": -3, "two": -3, "up": -3},
        partial(rows_in, 4, 3, 6, 6),
    ),
    "one image": (Images, {"one": -3, "two": -3, "up": -3}, partial(rows_in, 3, 6, 6)),
    "shared": (Shared, {"map": -1, "out": -1}, partial(rows_in, 16, 6)),
    "texts": (
        Texts,
        {"embed": -1, "norm": -1, "out": -1},
        lambda: list(torch.randint(0, 11, (3, 4, 5))),
    ),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("case", CASES)
def test_equal_to_what_the_modules_returned(case, how):
    make, axes, inputs = CASES[case]
    model, batches = make(), inputs()
    expected = returned(model, axes, batches)
    taps = taps_of(model)
    ran = HOW[how](model)
    for batch in batches:
        out = ran(batch)
        (out["image"] if isinstance(out, dict) else out).sum().backward()
    found = taps.collect(12).read()
    for name in axes:
        check(found[name].z, expected[name])
        assert found[name].samples == min(12, len(expected[name]))
    assert not torch._dynamo.utils.counters["graph_break"]
    assert not taps.silent()


def test_two_graphs_and_no_break_however_often_the_gate_turns():
    model = mlp()
    taps = taps_of(model)
    ran = COMPILE(model)
    counted = 0
    for number in range(9):
        taps.open(number % 3 == 0)
        ran(torch.randn(16, 6)).sum().backward()
        if number % 3 == 0:
            counted += int(taps.collect().read()["0"].z.count[0])
    stats = torch._dynamo.utils.counters["stats"]
    assert counted == 48
    assert stats["unique_graphs"] == 2
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_checkpointing_computes_again_is_not_counted(reentrant):
    model = Checkpointed(reentrant)
    x = torch.randn(16, 6)
    expected = returned(model, {"first": -1, "body.0": -1}, [x])
    taps = taps_of(model)
    model(x).sum().backward()
    found = taps.collect().read()
    for name, rows in expected.items():
        check(found[name].z, rows)


def test_checkpointing_in_a_compiled_model_keeps_means():
    model = Checkpointed()
    x = torch.randn(16, 6)
    expected = returned(model, {"body.0": -1}, [x])["body.0"]
    taps = taps_of(model)
    COMPILE(model)(x).sum().backward()
    z = taps.collect().read()["body.0"].z
    np.testing.assert_allclose(z.mean, expected.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(z.var, expected.var(0), rtol=1e-5)


# torch.compile's own, where a recurrent layer breaks its graph
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("how", HOW)
def test_packed_sequences_and_what_a_recurrent_kernel_hides(how):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.rnn = nn.LSTM(4, 5, bidirectional=True)
            self.out = nn.Linear(10, 3)

        def forward(self, x):
            x = PackedSequence(self.inner(x.data), *x[1:])
            return self.out(self.rnn(x)[0].data)

    model = Model()
    batch = pack_sequence([torch.randn(5, 4), torch.randn(3, 4)])
    expected = returned(model, {"inner": -1, "out": -1}, [batch])
    taps = taps_of(model)
    HOW[how](model)(batch).sum().backward()
    found = taps.collect(2).read()
    assert set(found) == {"inner", "out"}
    for name, rows in expected.items():
        check(found[name].z, rows)
        assert found[name].samples == 2
    assert set(taps.unseen.values()) == {FUSED}
    assert len(taps.unseen) == 4


@pytest.mark.parametrize("how", HOW)
def test_saturation_is_counted_from_when_it_is_known(how):
    model = mlp()
    taps = taps_of(model)
    ran = HOW[how](model)
    x = torch.randn(30, 6)
    ran(x)
    assert taps.collect().read()["0"].beyond is None
    taps.watch_saturation({"0": 0.5, "no site": 1.0})
    z = ran(x)
    found = taps.collect().read()
    z = model[0](x)
    assert found["0"].beyond.tolist() == (z.abs() > 0.5).sum(0).tolist()
    assert found["2"].beyond is None


def test_compiled_before_it_is_watched():
    model = mlp()
    ran = COMPILE(model)
    x = torch.randn(8, 6)
    ran(x)
    for watched in (model, ran):
        taps = taps_of(watched)
        ran(x)
        assert taps.collect().read() == {}
        assert set(taps.silent().values()) == {LATE}
        taps.close()
    taps = taps_of(model)
    torch._dynamo.reset()  # the remedy
    ran(x)
    assert set(taps.collect().read()) == {"0", "2"}
    assert taps.silent() == {}


def test_compiled_in_place_before_it_is_watched():
    model = mlp()
    model.compile(backend="aot_eager")
    x = torch.randn(8, 6)
    model(x)
    taps = taps_of(model)
    model(x)  # the parts of nn.Sequential are graphs of their own, and call hooks
    assert taps.collect().read()["0"].z.count[0] == 8
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("how", HOW)
def test_low_precision_with_a_sample_that_is_not_finite(how):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU()).bfloat16()
    with torch.no_grad():
        model[0].weight[3] = torch.inf
    x = torch.randn(40, 6).bfloat16() + 3
    expected = returned(model, {"0": -1}, [x])["0"]
    taps = taps_of(model)
    HOW[how](model)(x).sum().backward()
    z = taps.collect().read()["0"].z
    assert z.nonfinite.tolist() == [0, 0, 0, 40, 0, 0, 0, 0]
    sound = z.nonfinite == 0
    part = replace(z, **{f.name: getattr(z, f.name)[sound] for f in fields(z)})
    check(part, expected[:, sound], 1e-6)
