from math import inf, isnan, nan, sqrt

import numpy as np
import pytest
import torch
from torch import nn

from plumbob.survey.stream.later import Later
from plumbob.survey.stream.marks import Marks
from plumbob.survey.stream.samples import WHOLE, Samples


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(300, 200), nn.Tanh(), nn.Linear(200, 5))


def train(net, optimizer, marks, *, data=None):
    """Take one measured step, and return its marks and an oracle's, by name."""
    x = torch.randn(16, 300) if data is None else data
    optimizer.zero_grad()
    net(x).square().mean().backward()
    old = {n: p.detach().clone() for n, p in net.named_parameters()}
    grads = {n: p.grad for n, p in net.named_parameters()}
    marks.look(optimizer)
    marks.look_at_gradients(optimizer)
    optimizer.step()
    marks.keep(optimizer, marks.compare(optimizer))
    found = read(marks)
    want = {}
    for name, p in net.named_parameters():
        w, d = old[name].double(), (p - old[name]).detach().double()
        g = None if grads[name] is None else grads[name].double()
        want[name] = {"size": w.norm(), "change": d.norm(), "along": (w * d).sum()}
        if g is not None:
            want[name] |= {
                "gradient": g.norm(),
                "pull": (w * g).sum(),
                "slope": (g * d).sum(),
            }
    return found, want


def read(marks):
    found = marks.collect()
    values = Later([one.numbers for one in found]).read()
    return {
        k: m
        for one, v in zip(found, values, strict=True)
        for k, m in one.marks(v).items()
    }


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=True),
        lambda p: torch.optim.Adam(p, 1e-2, fused=True),
        lambda p: torch.optim.AdamW(p, 1e-2, capturable=False, amsgrad=True),
        lambda p: torch.optim.RMSprop(p, 1e-2, centered=True),
        lambda p: torch.optim.Adagrad(p, 1e-2),
    ],
)
def test_whole_parameters_are_measured_exactly(make):
    net = model()
    marks, optimizer = Marks(net), make(net.parameters())
    train(net, optimizer, marks)
    found, want = train(net, optimizer, marks)
    for name in ("0.bias", "2.weight", "2.bias"):  # "0.weight" is larger than WHOLE
        for kind, value in want[name].items():
            assert getattr(found[name], kind) == pytest.approx(float(value), rel=2e-5)
        assert found[name].lr == optimizer.param_groups[0]["lr"]
    assert found["0.weight"].gradient == pytest.approx(
        float(want["0.weight"]["gradient"]), rel=1e-5
    )


def test_a_large_matrix_is_measured_by_a_sample():
    net = model()
    found, want = train(net, torch.optim.SGD(net.parameters(), 0.1), Marks(net))
    assert net[0].weight.numel() > WHOLE
    mark = found["0.weight"]
    for kind in ("size", "change", "slope"):
        expected = float(want["0.weight"][kind])
        assert getattr(mark, kind) == pytest.approx(expected, rel=0.08)
    assert mark.slope == pytest.approx(-(mark.change**2) / 0.1, rel=1e-4)


@pytest.mark.parametrize("shape", [(512, 784), (1024, 1024), (10, 50_000), (70_000,)])
def test_a_sample_knows_uneven_rows_to_a_few_percent(shape):
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(5):
        rows = rng.exponential(size=(shape[0], *(1,) * (len(shape) - 1))) ** 0.5
        t = torch.tensor(rows * rng.standard_normal(shape), dtype=torch.float32)
        samples = Samples([t])
        room = samples.room()
        samples.places(room)[0].copy_(samples.pick(0, t))
        square = samples.sums([(room * room).sum(1)])[0] * samples.factors
        errors.append(float(square.sqrt() / t.norm()) - 1)
    assert np.abs(errors).max() < 0.12
    assert abs(np.mean(errors)) < 0.05


def test_moved_is_the_way_from_the_start_of_a_vector():
    net = model()
    marks, optimizer = Marks(net), torch.optim.SGD(net.parameters(), 0.3)
    start = net[0].bias.detach().clone()
    for _ in range(3):
        found, _ = train(net, optimizer, marks)
    away = float((net[0].bias - start).detach().norm())
    assert found["0.bias"].moved == pytest.approx(away, rel=1e-5)
    assert isnan(found["0.weight"].moved)


def test_gradients_that_are_missing_or_not_finite():
    net = model()
    net[2].bias.requires_grad_(False)
    marks, optimizer = Marks(net), torch.optim.SGD(net.parameters(), 0.1)
    found, _ = train(net, optimizer, marks, data=torch.full((4, 300), nan))
    assert found["0.weight"].gradient == inf
    still = found["2.bias"]
    assert isnan(still.gradient)
    assert isnan(still.slope)
    assert still.change == 0
    assert still.size == pytest.approx(float(net[2].bias.norm()), rel=1e-5)


def test_parameters_of_no_optimiser_have_a_size_that_follows_them():
    net = model()
    marks, optimizer = Marks(net), torch.optim.SGD(net[2].parameters(), 0.1)
    found, want = train(net, optimizer, marks)
    assert found["0.bias"].size == pytest.approx(float(want["0.bias"]["size"]))
    assert isnan(found["0.bias"].change)
    with torch.no_grad():
        net[0].bias.mul_(2)
    found, want = train(net, optimizer, marks)
    assert found["0.bias"].size == pytest.approx(float(want["0.bias"]["size"]))


def test_groups_that_come_later_and_settings_that_change():
    net = model()
    marks = Marks(net)
    optimizer = torch.optim.SGD(net[2].parameters(), 0.1)
    train(net, optimizer, marks)
    start = net[0].bias.detach().clone()
    optimizer.add_param_group({"params": [*net[0].parameters()], "weight_decay": 0.5})
    optimizer.param_groups[0]["lr"] = torch.tensor(0.02)
    found, want = train(net, optimizer, marks)
    assert found["0.bias"].decay == pytest.approx(0.5)
    assert found["2.bias"].lr == pytest.approx(0.02)
    assert found["0.bias"].change == pytest.approx(float(want["0.bias"]["change"]))
    away = float((net[0].bias - start).detach().norm())
    assert found["0.bias"].moved == pytest.approx(away, rel=1e-5)


def test_a_parameter_that_the_model_no_longer_has_is_not_called_by_its_name():
    net = model()
    marks, optimizer = Marks(net), torch.optim.SGD(net.parameters(), 0.1)
    train(net, optimizer, marks)
    net[2].bias = nn.Parameter(torch.ones(5))
    found, _ = train(net, optimizer, marks)
    assert isnan(found["2.bias"].change)
    assert found["2.bias"].size == pytest.approx(sqrt(5))


@pytest.mark.parametrize(("eps", "share"), [(1e-8, 0.0), (1e-3, 0.5), (2.0, 1.0)])
def test_swallowed_is_of_what_has_had_a_gradient(eps, share):
    layer = nn.Linear(6, 1, bias=False)
    x = torch.tensor([[0.0, 0.0, 1e-4, 1e-4, 1.0, 1.0]])
    marks, optimizer = Marks(layer), torch.optim.Adam(layer.parameters(), eps=eps)
    for _ in range(2):
        optimizer.zero_grad()
        layer(x).sum().backward()
        marks.look(optimizer)
        marks.look_at_gradients(optimizer)
        optimizer.step()
        marks.keep(optimizer, marks.compare(optimizer))
        found = read(marks)
    # g is 0, 1e-4 and 1: so is the root of its bias-corrected second moment
    assert found["weight"].swallowed == share


def test_a_sparse_gradient_is_measured_on_the_rows_it_names():
    torch.manual_seed(0)
    table = nn.Embedding(5000, 20, sparse=True)
    marks, optimizer = Marks(table), torch.optim.SGD(table.parameters(), 0.5)
    table(torch.tensor([3, 3, 7, 4000])).square().sum().backward()
    grad, old = table.weight.grad.to_dense(), table.weight.detach().clone()
    marks.look(optimizer)
    marks.look_at_gradients(optimizer)
    optimizer.step()
    marks.keep(optimizer, marks.compare(optimizer))
    mark, change = read(marks)["weight"], (table.weight - old).detach()
    assert mark.gradient == pytest.approx(float(grad.norm()), rel=1e-5)
    assert mark.change == pytest.approx(float(change.norm()), rel=1e-5)
    assert mark.slope == pytest.approx(float((grad * change).sum()), rel=1e-5)
    assert mark.pull == pytest.approx(float((old * grad).sum()), rel=1e-5)
    assert mark.size == pytest.approx(float(old.norm()), rel=0.03)


def test_dense_orders_of_memory_half_precision_and_complex_numbers():
    torch.manual_seed(0)

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(64, 96, 3).to(memory_format=torch.channels_last)
            self.low = nn.Parameter(torch.randn(40, 30).to(torch.bfloat16))
            self.turned = nn.Parameter(torch.randn(300, 200).T)
            self.number = nn.Parameter(torch.randn(9, dtype=torch.complex64))
            self.scalar = nn.Parameter(torch.tensor(3.0))

    net = Odd()
    marks, optimizer = Marks(net), torch.optim.SGD(net.parameters(), 0.25)
    want, sizes = {}, {}
    for name, p in net.named_parameters():
        p.grad = torch.randn(p.shape).to(p.dtype)  # the conv's in another order
        want[name] = float((p.grad.abs().double().square()).sum().sqrt())
    sizes = {
        n: float(p.detach().abs().double().norm()) for n, p in net.named_parameters()
    }
    marks.look(optimizer)
    marks.look_at_gradients(optimizer)
    optimizer.step()
    marks.keep(optimizer, marks.compare(optimizer))
    found = read(marks)
    for name, norm in want.items():
        large = net.get_parameter(name).numel() > WHOLE
        assert found[name].gradient == pytest.approx(norm, rel=1e-4)
        assert found[name].size == pytest.approx(
            sizes[name], rel=0.03 if large else 1e-4
        )
        step = 0.25 * norm
        close = 0.05 if large or name == "low" else 1e-4
        assert found[name].change == pytest.approx(step, rel=close)
        assert found[name].slope == pytest.approx(-0.25 * norm**2, rel=2 * close)


def test_steps_of_doubles_below_what_floats_resolve():
    layer = nn.Linear(8, 1, dtype=torch.float64)
    marks, optimizer = Marks(layer), torch.optim.SGD(layer.parameters(), 1e-12)
    layer(torch.ones(1, 8, dtype=torch.float64)).sum().backward()
    marks.look(optimizer)
    marks.look_at_gradients(optimizer)
    optimizer.step()
    marks.keep(optimizer, marks.compare(optimizer))
    assert read(marks)["weight"].change == pytest.approx(sqrt(8) * 1e-12, rel=1e-3)


def test_parameters_without_elements_and_of_no_step():
    net = model()
    net.empty = nn.Parameter(torch.zeros(0))
    net.still = nn.Parameter(torch.zeros(0, 3), requires_grad=False)
    net.empty.grad = torch.zeros(0)
    held = [p for p in net.parameters() if p.requires_grad]
    marks, optimizer = Marks(net), torch.optim.SGD(held, 0.1)
    for _ in range(2):
        optimizer.step()
        marks.look(optimizer)
        marks.look_at_gradients(optimizer)
        marks.keep(optimizer, marks.compare(optimizer))
        found = read(marks)
    assert found["empty"].size == found["still"].size == 0
    size = float(net[2].bias.detach().norm())
    assert found["2.bias"].size == pytest.approx(size, rel=1e-5)


def test_a_step_inside_of_autocast_is_measured_as_any_other():
    net = model()
    marks, optimizer = Marks(net), torch.optim.SGD(net.parameters(), 1e-5)
    with torch.autocast("cpu", torch.float16):
        found, want = train(net, optimizer, marks)
    for name in ("0.bias", "2.weight"):
        change = float(want[name]["change"])
        assert found[name].change == pytest.approx(change, rel=0.01)
        assert change > 0


def test_a_rate_that_is_a_tensor_is_that_of_the_step():
    net = nn.Linear(3, 1)
    rate = torch.tensor(0.25)
    marks, optimizer = Marks(net), torch.optim.SGD(net.parameters(), rate)
    net(torch.ones(1, 3)).sum().backward()
    marks.look(optimizer)
    marks.look_at_gradients(optimizer)
    optimizer.step()
    marks.keep(optimizer, marks.compare(optimizer))
    rate.fill_(0.5)  # as a schedule does
    assert read(marks)["weight"].lr == pytest.approx(0.25)


def test_a_vector_put_in_the_place_of_another_starts_anew():
    net = model()
    marks, optimizer = Marks(net), torch.optim.SGD(net.parameters(), 0.3)
    train(net, optimizer, marks)
    for units in (5, 7):
        net[2] = nn.Linear(200, units)
        start = net[2].bias.detach().clone()
        optimizer.param_groups[0]["params"] = [*net.parameters()]
        found, _ = train(net, optimizer, marks)
        away = float((net[2].bias - start).detach().norm())
        assert found["2.bias"].moved == pytest.approx(away, rel=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_frozen_parts_without_versions_or_of_a_script():
    with torch.inference_mode():
        first = nn.Linear(300, 300).requires_grad_(False)
    script = torch.jit.script(nn.Linear(300, 300).requires_grad_(False))
    net = nn.Sequential(first, script, *model())
    marks, optimizer = Marks(net), torch.optim.SGD(net[2:].parameters(), 0.1)
    for _ in range(2):
        found, want = train(net, optimizer, marks)
        for name in ("0.bias", "1.bias"):
            size = float(want[name]["size"])
            assert found[name].size == pytest.approx(size, rel=1e-5)
