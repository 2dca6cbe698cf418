"""Rivals: several optimisers, one clock."""

import pytest
import torch
from torch import nn

from plumbob.survey.stream.stream import Stream


def gan(rounds, ratio, every, **options):
    torch.manual_seed(0)
    pair = nn.ModuleDict({"g": nn.Linear(4, 8), "d": nn.Linear(8, 1)})
    g, d = (
        torch.optim.SGD(pair[name].parameters(), 0.01, momentum=0.9) for name in "gd"
    )
    logs = []
    stream = Stream(pair, [d, g], every=every, on_log=logs.append, **options)
    for k in range(rounds):
        d.zero_grad()
        real, made = torch.randn(6, 8), pair["g"](torch.randn(6, 4)).detach()
        loss = (pair["d"](made).exp() - pair["d"](real)).mean()
        loss.backward()
        d.step()
        stream.loss(loss, "d")
        if k % ratio == ratio - 1:
            g.zero_grad()
            loss = -pair["d"](pair["g"](torch.randn(6, 4))).mean()
            loss.backward()
            g.step()
            stream.loss(loss, "g")
    stream.close()
    assert stream.broken is None
    return logs, stream


@pytest.mark.parametrize("every", [1, 10])
def test_rivals_that_step_together(every):
    logs, stream = gan(21, 1, every, burst=1)
    assert stream.taken == 21
    marked = [log for log in logs if log.marks]
    assert [log.step for log in marked] == list(range(0, 21, every))
    for log in marked:
        assert all(mark.change > 0 for mark in log.marks.values())
        assert set(log.windows) == {"g", "d"}
    for name in "dg":
        told = [step for log in logs for step, _ in log.losses.get(name, ())]
        assert told == list(range(21))
    assert logs[-1].uncleared == 0  # d's own step finds them cleared
    assert logs[-1].looked == 40


def test_rivals_of_which_one_steps_more_often():
    logs, stream = gan(60, 5, 20, burst=1)
    assert stream.taken == 60
    marked = [log for log in logs if log.marks]
    # at 0 the log waits for g, which steps for the first time in the fifth round
    assert [log.step for log in marked] == [0, 20, 40]
    assert all(m.change > 0 for log in marked for m in log.marks.values())
    assert logs[-1].uncleared == 0


def test_an_optimiser_that_hardly_ever_steps_is_not_waited_for():
    logs, _ = gan(60, 59, 20, burst=1)
    marked = [log for log in logs if log.marks]
    assert [log.step for log in marked] == [0, 20, 40]
    assert not [log for log in marked if log.marks["g.weight"].change > 0]
