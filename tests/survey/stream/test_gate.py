import random
from math import inf, nan

import pytest
import torch
from torch import nn

from plumbob.survey.stream.gate import Gate
from plumbob.survey.stream.stream import Stream


def tell(gate, values, kind="loss", start=0):
    """Tell a value after each step; return why each next step is measured."""
    found = []
    for step, value in enumerate(values, start):
        gate.tell(kind, "", float(value), step + 1)
        found.append(gate.due(step + 1))
    return found


def test_a_burst_at_the_start_and_then_some_by_number():
    gate = Gate(every=10, burst=3)
    why = [gate.due(step) for step in range(21)]
    assert why[:4] == ["start", "start", "start", ""]
    assert [k for k, reason in enumerate(why) if reason == "every"] == [10, 20]


@pytest.mark.parametrize("bad", [50.0, nan, inf])
def test_three_steps_after_a_jump_and_then_a_rest(bad):
    rng = random.Random(0)
    gate = Gate(every=1000, burst=0)
    calm = [1 + 0.1 * rng.gauss(0, 1) for _ in range(40)]
    assert not any(tell(gate, calm))
    assert tell(gate, [bad, 1, 1, 1, 1], start=40) == ["loss"] * 3 + ["", ""]
    assert not any(tell(gate, [bad] * 50, start=45))


def test_losses_that_stay_broken_are_no_news():
    gate = Gate(every=10, burst=0)
    found = tell(gate, [nan] * 100)
    assert [k for k, why in enumerate(found, 1) if why == "loss"] == [1, 2, 3]


def test_what_varies_little_or_falls_is_no_jump():
    assert not any(tell(Gate(10**6, 0), [2.0] * 30 + [2.3]))
    assert any(tell(Gate(10**6, 0), [2.0] * 30 + [2.5]))
    assert not any(tell(Gate(10**6, 0), [0.99**k for k in range(500)]))


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("seed", range(3))
def test_noise_trips_rarely(kind, seed):
    rng = random.Random(seed)
    values = [rng.gammavariate(2, 1) for _ in range(20_000)]
    found = tell(Gate(10**9, 0), values, kind)
    assert sum(map(bool, found)) < 60  # 20 jumps of 3 steps


def test_a_jump_of_the_loss_is_measured_from_the_next_step_on():
    torch.manual_seed(0)
    net = nn.Linear(4, 1)
    logs, optimizer = [], torch.optim.SGD(net.parameters(), 1e-4)
    stream = Stream(net, optimizer, every=100, burst=1, on_log=logs.append)
    for k in range(40):
        optimizer.zero_grad()
        loss = (net(torch.randn(8, 4)) - 1).square().mean() * (1000 if k == 30 else 1)
        loss.backward()
        optimizer.step()
        stream.step(loss)
    stream.close()
    marked = [(log.step, log.why) for log in logs if log.marks]
    assert marked == [(0, "start"), *((k, "loss") for k in (31, 32, 33))]
