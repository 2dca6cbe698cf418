import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.stream.stream import Stream

LOSS = nn.CrossEntropyLoss()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.drop(self.body(x)))


def batch():
    return torch.randn(12, 8), torch.randint(3, (12,))


def sgd(net, lr=0.1):
    return torch.optim.SGD(net.parameters(), lr, momentum=0.9)


def go(stream, net, optimizer, steps, *, tell="after", clear=True, parts=1):
    """Train; the losses are those that were told."""
    told = []
    for _ in range(steps):
        if clear:
            optimizer.zero_grad()
        for _ in range(parts):
            x, y = batch()
            loss = LOSS(net(x), y)
            loss.backward()
            told.append(loss.item())
            if tell == "before":
                stream.step(loss)
        optimizer.step()
        if tell == "after":
            stream.step(loss)
    return told


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.mark.parametrize("tell", ["before", "after"])
@pytest.mark.parametrize("every", [1, 4])
def test_a_loss_belongs_to_its_step_whenever_it_is_told(net, tell, every):
    logs, optimizer = [], sgd(net)
    stream = Stream(net, optimizer, every=every, burst=2, on_log=logs.append)
    told = go(stream, net, optimizer, 10, tell=tell)
    stream.close()
    pairs = [pair for log in logs for pair in log.losses["loss"]]
    assert pairs == list(enumerate(told))
    steps = [log.step for log in logs if log.marks]
    assert steps == (list(range(10)) if every == 1 else [0, 1, 4, 8])
    assert [log.why for log in logs][:2] == ["start", "start"]
    assert all(log.samples == 12 for log in logs)
    assert stream.broken is None


def test_losses_of_batches_that_add_up_belong_to_the_step_they_lead_to(net):
    logs, optimizer = [], sgd(net)
    stream = Stream(net, optimizer, every=1, on_log=logs.append)
    go(stream, net, optimizer, 3, tell="before", parts=2)
    stream.close()
    pairs = [step for log in logs for step, _ in log.losses["loss"]]
    assert pairs == [0, 0, 1, 1, 2, 2]
    assert [log.samples for log in logs] == [24, 24, 24]
    assert logs[-1].looked == 2
    assert logs[-1].uncleared == 0


@pytest.mark.parametrize(
    "value", [1.5, torch.tensor([[1.5]]), torch.tensor(1.5), np.array([1.5])]
)
def test_what_a_loss_may_be(net, value):
    logs = []
    stream = Stream(net, sgd(net), on_log=logs.append)
    stream.step(value)
    stream.step(None)
    stream.validation(value)
    stream.loss(float("nan"), "other")
    stream.close()
    (log,) = logs
    assert (log.step, log.why, log.held) == (-1, "end", ((0, 1.5),))
    assert log.losses["loss"] == ((0, 1.5),)
    assert log.losses["other"][0][1] != log.losses["other"][0][1]


@pytest.mark.parametrize("value", [torch.ones(3), "low", np.ones(3), [1.0], "1"])
def test_what_a_loss_may_not_be(net, value):
    stream = Stream(net, sgd(net), on_log=lambda log: None)
    with pytest.raises(InputError, match="expected a loss"):
        stream.step(value)
    stream.close()


def losses(kind, every=None, stop=None):
    """Return the losses of a training, watched or not, and its last state."""
    torch.manual_seed(0)
    net = Net()
    make = {"adam": torch.optim.Adam, "sgd": sgd}["adam" if kind == "adam" else "sgd"]
    optimizer = make(net.parameters(), 1e-2) if kind == "adam" else make(net)
    stream = every and Stream(net, optimizer, every=every, on_log=lambda log: None)
    if stop is not None:
        stream.marks.compare = stop
    found = []
    for _ in range(25):
        x, y = batch()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
            loss = LOSS(net(x), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
        if stream:
            stream.step(loss)
    if stream:
        assert (stream.broken is None) == (stop is None)
        stream.close()
    return found, copy.deepcopy((net.state_dict(), optimizer.state_dict())), stream


@pytest.mark.parametrize("kind", ["adam", "sgd", "autocast"])
@pytest.mark.parametrize("every", [1, 4])
def test_the_training_is_the_same_to_the_last_bit(kind, every):
    bare, watched = losses(kind), losses(kind, every)
    assert bare[0] == watched[0]
    torch.testing.assert_close(bare[1], watched[1], rtol=0, atol=0)


def test_what_goes_wrong_in_here_does_not_reach_the_loop():
    def stop(optimizer):
        raise ZeroDivisionError("of ours")

    bare, watched = losses("adam"), losses("adam", 1, stop)
    assert bare[0] == watched[0]
    assert watched[2].broken == "ZeroDivisionError: of ours"


@pytest.mark.parametrize(
    "where", ["taps", "calls", "look", "passed", "count", "log", "glance"]
)
def test_wherever_it_goes_wrong(net, where):
    def stop(*_, **__):
        raise RuntimeError(where)

    optimizer = sgd(net)
    stream = Stream(net, optimizer, every=3, burst=1, on_log=lambda log: None)
    owner, name = {
        "taps": (stream.taps, "collect"),
        "calls": (stream.modes, "called"),
        "look": (stream.marks, "look"),
        "passed": (stream.calls, "stepped"),
        "count": (stream.scaling, "look"),
        "log": (stream, "on_log"),
        "glance": (stream.glances, "tell"),
    }[where]
    setattr(owner, name, stop)
    go(stream, net, optimizer, 5)
    assert stream.broken == f"RuntimeError: {where}"
    stream.close()
    assert hooks(net, optimizer) == 0


def hooks(net, *optimizers):
    found = [(m._forward_hooks, m._forward_pre_hooks) for m in net.modules()]
    found += [
        (o._optimizer_step_pre_hooks, o._optimizer_step_post_hooks) for o in optimizers
    ]
    found += [(p._backward_hooks or (),) for p in net.parameters()]
    return sum(len(some) for parts in found for some in parts)


def test_close_takes_every_hook_off(net):
    optimizer = sgd(net)
    stream = Stream(net, optimizer, on_log=lambda log: None)
    go(stream, net, optimizer, 2)
    assert hooks(net, optimizer)
    stream.close()
    stream.close()
    assert hooks(net, optimizer) == 0


@pytest.mark.parametrize("keep", [False, True])
def test_gradients_that_nobody_clears(net, keep):
    logs, optimizer = [], sgd(net, 1e-4)
    stream = Stream(net, optimizer, every=1, on_log=logs.append)
    go(stream, net, optimizer, 6, clear=not keep)
    stream.close()
    assert logs[-1].looked == 5
    assert logs[-1].uncleared == (5 if keep else 0)


def test_gradients_cleared_to_zero_are_cleared(net):
    logs, optimizer = [], sgd(net)
    stream = Stream(net, optimizer, every=1, on_log=logs.append)
    for _ in range(4):
        loss = LOSS(net(batch()[0]), batch()[1])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        stream.step(loss)
    stream.close()
    assert (logs[-1].looked, logs[-1].uncleared) == (3, 0)


def test_a_closure_is_looked_at_once_it_has_made_the_gradients():
    torch.manual_seed(0)
    net = nn.Linear(6, 1)
    x, y = torch.randn(20, 6), torch.randn(20, 1)
    optimizer = torch.optim.LBFGS(net.parameters(), 0.1, max_iter=3)
    logs, first = [], []
    stream = Stream(net, optimizer, every=1, on_log=logs.append)

    def closure():
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        first.append(net.weight.grad.norm().item())
        return loss

    start = len(first)
    for _ in range(2):
        start = len(first)
        stream.step(optimizer.step(closure))
    stream.close()
    mark = logs[-1].marks["weight"]
    assert mark.gradient == pytest.approx(first[start], rel=1e-5)
    assert mark.change > 0
    assert logs[-1].uncleared == 0
    assert len(logs[-1].losses["loss"]) == 1


def test_a_loop_by_hand_has_marks_between_two_calls_of_step(net):
    logs = []
    stream = Stream(net, every=2, burst=1, on_log=logs.append)
    for _ in range(6):
        x, y = batch()
        loss = LOSS(net(x), y)
        loss.backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
        stream.step(loss)
        net.zero_grad()
    stream.close()
    assert stream.broken is None
    marked = [log for log in logs if log.marks]
    assert [log.step for log in marked] == [0, 2, 4]
    mark = marked[-1].marks["head.weight"]
    assert mark.change == pytest.approx(0.1 * mark.gradient, rel=1e-4)
    assert [s for log in logs for s, _ in log.losses["loss"]] == list(range(6))


def test_what_looks_like_an_optimiser_is_measured_where_step_is_said(net):
    class Mine(SimpleNamespace):
        def step(self):
            with torch.no_grad():
                for p in self.param_groups[0]["params"]:
                    p -= 0.2 * p.grad

    mine = Mine(param_groups=[{"params": [*net.parameters()], "lr": 0.2}], state={})
    logs = []
    stream = Stream(net, mine, every=1, on_log=logs.append)
    for _ in range(3):
        net.zero_grad()
        LOSS(net(batch()[0]), batch()[1]).backward()
        mine.step()
        stream.step()
    stream.close()
    mark = logs[-1].marks["head.bias"]
    assert mark.lr == pytest.approx(0.2)
    assert mark.slope == pytest.approx(-0.2 * mark.gradient**2, rel=1e-4)


def test_a_wrapped_optimiser_is_its_inside(net):
    optimizer = sgd(net)

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, inside):  # as Accelerate's, which has no hooks of its own
            self.optimizer = inside

        param_groups = property(lambda self: self.optimizer.param_groups)
        state = property(lambda self: self.optimizer.state)

    logs = []
    stream = Stream(net, Wrapper(optimizer), every=1, on_log=logs.append)
    go(stream, net, optimizer, 2)
    stream.close()
    assert [log.step for log in logs] == [0, 1]


def test_steps_that_a_scaler_left_out_are_counted(net):
    logs, optimizer = [], sgd(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1000)
    stream = Stream(net, optimizer, every=1, on_log=logs.append)
    for k in range(6):
        optimizer.zero_grad()
        x, y = batch()
        loss = LOSS(net(x), y)
        scaled = scaler.scale(loss)
        (scaled * float("inf") if k in {0, 1, 3} else scaled).backward()
        scaler.step(optimizer)
        scaler.update()
        stream.step(loss)
    stream.close()
    assert stream.taken == 3
    assert [log.skipped for log in logs if log.marks] == [2, 3, 3]
    assert [log.scale for log in logs if log.marks] == [16.0, 8.0, 8.0]
    assert logs[-1].marks["head.bias"].gradient < 2  # unscaled
    assert logs[-1].uncleared == 0


def test_a_model_without_parameters_and_one_that_is_lazy():
    stream = Stream(nn.ReLU(), on_log=lambda log: None)
    stream.step(1.0)
    stream.close()
    assert stream.broken is None
    net = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 3))
    logs, x = [], torch.randn(5, 7)
    stream = Stream(net, every=1, on_log=logs.append)
    for _ in range(2):
        net(x).sum().backward()
        stream.step(1.0)
    stream.close()
    assert stream.broken is None
    assert set(logs[-1].marks) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_asleep_it_notes_nothing(net):
    logs, optimizer = [], sgd(net)
    stream = Stream(net, optimizer, every=1, on_log=logs.append)
    stream.asleep = True
    go(stream, net, optimizer, 3)
    stream.asleep = False
    stream.close()
    assert not logs
    assert stream.taken == 0


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_part_of_a_script_and_an_optimiser_named_twice():
    net = nn.Sequential(torch.jit.script(nn.Linear(8, 4)), nn.Linear(4, 3))
    logs, optimizer = [], sgd(net)
    stream = Stream(net, [optimizer, optimizer], every=1, on_log=logs.append)
    go(stream, net, optimizer, 3)
    stream.close()
    assert stream.broken is None
    assert [log.step for log in logs] == [0, 1, 2]
    assert set(logs[0].windows) == {"1"}


def test_ranks_of_a_model_without_parameters(monkeypatch):
    weight, net = nn.Parameter(torch.ones(3)), nn.ReLU()
    optimizer = torch.optim.SGD([weight], 0.1)
    stream = Stream(net, optimizer, every=1, on_log=lambda log: None)
    monkeypatch.setattr(stream.agreement, "ranks", 2)
    monkeypatch.setattr(stream.agreement, "reach", lambda names: None)
    monkeypatch.setattr(stream.agreement, "deserted", lambda: False)
    net(weight).sum().backward()
    optimizer.step()  # where nothing can be asked
    assert stream.broken is not None
    stream.close()


@pytest.mark.parametrize("loss", [torch.ones(2), torch.tensor(1j), "1"])
def test_what_is_no_loss_is_refused(loss):
    stream = Stream(nn.Linear(2, 2), on_log=lambda log: None)
    with pytest.raises(InputError, match="expected a loss"):
        stream.loss(loss)
    stream.close()
