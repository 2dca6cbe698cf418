"""Taps against float64 numbers computed from all that the modules returned."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.checkpoint import checkpoint

from plumbob.survey.modules import module_sites
from plumbob.survey.stream import units
from plumbob.survey.stream.places import FUSED, LAZY, PACKED, STRANGE
from plumbob.survey.stream.units import LATE, UNCALLED, Taps

COMPILE = partial(torch.compile, backend="aot_eager")
HOW = {"eager": lambda model: model, "compiled": COMPILE}


@pytest.fixture(autouse=True)
def _fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def taps_of(model):
    taps = Taps(model, module_sites(model))
    taps.open(True)
    return taps


def returned(model, axes, batches):
    """What the modules of a copy return, units last, in float64."""
    model = copy.deepcopy(model)
    rows = {name: [] for name in axes}

    def keep(name, module, inputs, output):
        output = output.detach().double().movedim(axes[name], -1)
        rows[name].append(output.reshape(-1, output.shape[-1]).clone())

    for name in axes:
        model.get_submodule(name).register_forward_hook(partial(keep, name))
    for batch in batches:
        model(batch)
    return {name: torch.cat(some).numpy() for name, some in rows.items()}


def check(z, rows, tolerance=1e-5):
    """Compare moments with rows of values."""
    assert (z.count == len(rows)).all()
    assert not z.nonfinite.any()
    far = tolerance * rows.std(0).max()
    np.testing.assert_allclose(z.mean, rows.mean(0), rtol=tolerance, atol=far)
    np.testing.assert_allclose(z.m2, rows.var(0) * len(rows), rtol=tolerance)
    np.testing.assert_allclose(z.low, rows.min(0), rtol=tolerance, atol=far)
    np.testing.assert_allclose(z.high, rows.max(0), rtol=tolerance, atol=far)
    assert (z.positive == (rows > 0).sum(0)).all()


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


class Images(nn.Module):
    """In-place activations behind every kind of convolution, a dictionary out."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.act = nn.ReLU(inplace=True)
        self.up = nn.ConvTranspose2d(8, 5, 2, stride=2)

    def forward(self, x):
        h = self.act(self.one(x))
        h = self.act(self.two(h).add_(h))
        return {"image": self.up(h)}


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(6, 6)
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.map(torch.tanh(self.map(x)))))


class Checkpointed(nn.Module):
    def __init__(self, reentrant=False):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.body = nn.Sequential(nn.Linear(6, 7), nn.Tanh())
        self.reentrant = reentrant

    def forward(self, x):
        x = self.first(x)
        return checkpoint(self.body, x, use_reentrant=self.reentrant)


class Texts(nn.Module):
    """A shifted embedding, norms, attention, and a tied output."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x):
        h = self.norm(self.embed(x))
        return self.out(h + self.attend(h, h, h, need_weights=False)[0])


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


def test_a_unit_that_is_not_finite_spoils_itself_alone():
    model = nn.Sequential(nn.Linear(4, 3))
    taps = taps_of(model)
    x = torch.randn(20, 4)
    with torch.no_grad():
        model[0].weight[1] = torch.nan
        model[0].weight[2] = 1e30
    rows = model(x).detach().double().numpy()
    z = taps.collect().read()["0"].z
    assert z.nonfinite.tolist() == [0, 20, 20]
    assert z.count.tolist() == [20, 0, 0]
    assert np.isfinite(z.mean).all()
    np.testing.assert_allclose(z.mean[0], rows[:, 0].mean(), rtol=1e-5)
    with torch.no_grad():
        model[0].weight[1:] = 1.0
    x[0] = torch.inf  # one sample, all units; the next batch is sound again
    model(x)
    assert (taps.collect().read()["0"].z.nonfinite == 20).all()
    rows = model(x[1:]).detach().double().numpy()
    check(taps.collect().read()["0"].z, rows)


def test_only_training_is_counted():
    model = mlp()
    taps = taps_of(model)
    with torch.no_grad():
        model.eval()(torch.randn(4, 6))
    assert taps.collect().read() == {}
    model(torch.randn(4, 6))  # trained in evaluation mode
    assert taps.collect().read()["0"].z.count[0] == 4
    taps.open(False)
    model.train()(torch.randn(4, 6))
    assert taps.collect().read() == {}


def test_nothing_is_kept_of_functional_transforms():
    model = mlp()
    taps = taps_of(model)
    x = torch.randn(4, 6)
    values = dict(model.named_parameters())

    def loss(values, row):
        return torch.func.functional_call(model, values, (row,)).sum()

    torch.func.vmap(torch.func.grad(loss), (None, 0))(values, x)
    assert taps.collect().read() == {}


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


def test_a_trace_says_which_norms_matter():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))
    model.extend([nn.BatchNorm1d(4), nn.Tanh()])
    taps = taps_of(model)
    sites = module_sites(model)
    known = dict(zip("0123", (None, None, None, "tanh"), strict=True))
    taps.know(replace(s, activation=known[s.name]) for s in sites)
    model(torch.randn(8, 4))
    found = taps.collect().read()
    assert set(found) == {"0", "2", "3"}
    assert found["3"].beyond is not None


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


def test_modules_that_are_not_called_are_silent():
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "passed_by": nn.Linear(2, 2)})
    taps = taps_of(model)
    model["used"](torch.ones(1, 2))
    model["passed_by"].forward(torch.ones(1, 2))
    taps.collect().read()
    assert taps.silent() == {"passed_by": UNCALLED}


def test_what_fails_in_a_tap_is_said_and_stops_nothing(monkeypatch):
    def fail(self, x):
        raise RuntimeError("out of memory")

    model = mlp()
    taps = taps_of(model)
    monkeypatch.setattr(units.Tap, "_add", fail)
    assert model(torch.ones(2, 6)).shape == (2, 3)
    taps.collect().read()
    why = "could not be measured: RuntimeError: out of memory"
    assert taps.silent() == dict.fromkeys("02", why)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_a_trace_of_torch_holds_no_taps():
    model = mlp()
    taps = taps_of(model)
    graph = torch.jit.trace(model, torch.ones(2, 6), check_trace=False).inlined_graph
    assert "aten::amax" not in str(graph)
    assert taps.collect().read() == {}


def test_copies_and_files_hold_no_taps(tmp_path):
    model = mlp()
    taps = taps_of(model)
    other = copy.deepcopy(model)
    torch.save(model, tmp_path / "model.pt")
    another = torch.load(tmp_path / "model.pt", weights_only=False)
    for one in (other, another):
        one(torch.randn(5, 6))
    assert taps.collect().read() == {}
    taps.close()
    assert not any(m._forward_hooks for m in model.modules())


def test_large_results_are_thinned(monkeypatch):
    monkeypatch.setattr(units, "LARGE", 400)
    monkeypatch.setattr(units, "LEAST", 10)
    model = nn.Sequential(nn.Conv1d(1, 4, 1))
    x = torch.randn(1, 1, 2000)
    taps = taps_of(model)
    for batch in (x, x.reshape(200, 1, 10)):
        z = model(batch).detach().double().numpy()
        found = taps.collect().read()["0"].z
        assert found.count[0] in {-(-2000 // 21), 10 * 10}
        np.testing.assert_allclose(found.mean, z.mean((0, 2)), atol=0.3)
        np.testing.assert_allclose(found.sd, z.std((0, 2)), rtol=0.3)


def test_the_same_gradients_bit_for_bit_and_nothing_in_the_state():
    x = torch.randn(8, 3, 6, 6)
    found = []
    for watched in (False, True):
        torch.manual_seed(1)
        model = Images()
        taps = taps_of(model) if watched else None
        before = list(model.state_dict())
        model(x)["image"].square().sum().backward()
        assert list(model.state_dict()) == before
        found.append([p.grad for p in model.parameters()])
    assert taps is not None
    assert all(map(torch.equal, *found))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.data())
def test_any_split_gives_the_same_moments(sizes, data):
    generator = torch.Generator().manual_seed(sum(sizes))
    x = 1000 + 3 * torch.randn(sum(sizes) + 2, 40, generator=generator)
    model = nn.Sequential(nn.Linear(40, 40, bias=False))
    nn.init.eye_(model[0].weight)
    taps = taps_of(model)
    found = None
    for batch in x.split([*sizes, 2]):
        model(batch)
        if data.draw(st.booleans()) or len(batch) == 2:
            part = taps.collect().read().get("0")
            if part is not None:
                found = part.z if found is None else found + part.z
    rest = taps.collect().read().get("0")
    found = found if rest is None else rest.z if found is None else found + rest.z
    check(found, x.double().numpy(), 1e-6)
