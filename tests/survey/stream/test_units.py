"""Taps against float64 numbers computed from all that the modules returned."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from plumbob.errors import one_line
from plumbob.survey.modules import module_sites
from plumbob.survey.stream import units
from plumbob.survey.stream.units import UNCALLED
from plumbob.survey.tally import by_unit
from tapping import (
    Images,
    check,
    mlp,
    taps_of,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


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


def test_a_first_batch_that_is_not_finite_spoils_no_later_one():
    model = nn.ModuleDict({"early": nn.Linear(4, 3), "late": nn.Linear(4, 3)})
    taps = taps_of(model)
    for _ in range(4):
        model["early"](torch.randn(20, 4))
        taps.collect().read()
    x = torch.randn(20, 4)
    model["late"](x.masked_fill(x > 0, torch.inf))
    assert (taps.collect().read()["late"].z.nonfinite == 20).all()
    rows = model["late"](x).detach().double().numpy()
    check(taps.collect().read()["late"].z, rows)


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


def test_modules_that_are_not_called_are_silent():
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "passed_by": nn.Linear(2, 2)})
    taps = taps_of(model)
    model["used"](torch.ones(1, 2))
    model["passed_by"].forward(torch.ones(1, 2))
    taps.collect().read()
    assert taps.silent() == {"passed_by": UNCALLED}


@pytest.mark.parametrize("kind", [RuntimeError, KeyError])
def test_what_fails_in_a_tap_is_said_and_stops_nothing(monkeypatch, kind):
    def fail(self, x):
        raise kind("out of memory")

    model = mlp()
    taps = taps_of(model)
    monkeypatch.setattr(units.Tap, "_add", fail)
    assert model(torch.ones(2, 6)).shape == (2, 3)
    taps.collect().read()
    why = f"could not be measured: {one_line(kind('out of memory'))}"
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
        assert 90 < found.count[0] < 120
        np.testing.assert_allclose(found.mean, z.mean((0, 2)), atol=0.3)
        np.testing.assert_allclose(found.sd, z.std((0, 2)), rtol=0.3)


def test_a_large_result_is_thinned_inside_of_samples_first(monkeypatch):
    monkeypatch.setattr(units, "LARGE", 4096)
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    images = torch.arange(256.0)[:, None, None, None].expand(-1, 1, 32, 32)
    seen = []
    add = units.Tap._add

    def look(self, x):
        fewer = units._fewer(by_unit(x, -3))
        seen.append(len(fewer[:, 0, 0].unique()))
        add(self, x)

    monkeypatch.setattr(units.Tap, "_add", look)
    taps = taps_of(model)
    model(images)
    found = taps.collect(256).read()["0"]
    assert 16 <= seen[0] < 40
    assert found.samples == seen[0]  # rather than 256
    assert 2048 <= found.z.count[0] < 4096


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
