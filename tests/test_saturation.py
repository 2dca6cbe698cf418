"""Glorot and Bengio's saturation: it is there, it is seen, and it needs no bias."""

from math import inf

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import plumbob
from healthy import digits
from nets_history_units import deep

inputs, labels = digits()


def batches(steps, each=False):
    draw = torch.Generator().manual_seed(0)
    rows = [(labels == label).nonzero()[:, 0] for label in range(10)]
    for _ in range(steps):
        if each:
            picks = [torch.randint(len(r), (1,), generator=draw) for r in rows]
            yield torch.cat([r[i] for r, i in zip(rows, picks, strict=True)])
        else:
            yield torch.randint(len(inputs), (10,), generator=draw)


def replay(activation=nn.Sigmoid, *, biases="all", each=False, steps=320):
    """Return the mean output of the top hidden layer, and what PB706 told and when."""
    model = deep(activation, width=50, bias=biases != "none")
    if biases == "frozen":
        model[-1].bias.requires_grad_(False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.4 if activation is nn.Sigmoid else 0.1)
    told = []
    with plumbob.watch(
        model, optimizer, loss=cross_entropy, every=20, select="PB706",
        severity="info", on_finding=lambda step, finding: told.append((step, finding)),
    ) as watch:  # fmt: skip
        for rows in batches(steps, each):
            optimizer.zero_grad()
            watch.loss(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return float(model[:-1](inputs).mean()), told


@pytest.fixture(scope="module")
def saturated():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "plumbob.watching.schedule.SHARE", inf
        )  # judged whatever it costs
        return {biases: replay(biases=biases) for biases in ("all", "frozen", "none")}


@pytest.mark.parametrize("biases", ["all", "frozen", "none"])
def test_the_top_layer_saturates_and_is_seen_to(saturated, biases):
    mean, told = saturated[biases]
    assert mean < 0.2  # it began at 1/2
    assert {finding.site for _, finding in told} == {"6"}
    first, last = (finding.severity for _, finding in (told[0], told[-1]))
    assert (first, last) == (plumbob.Severity.INFO, plumbob.Severity.WARNING)
    assert told[0][0] < 300  # during the run
    assert told[-1][1].cause.startswith("w.mu: ")


def test_no_bias_is_needed_for_it(saturated):
    means = [mean for mean, _ in saturated.values()]
    assert max(means) - min(means) < 0.02


def test_batches_with_each_class_once_do_not_saturate_it():
    mean, told = replay(each=True)
    assert mean == pytest.approx(0.5, abs=0.02)
    assert not told


def test_the_tanh_twin_is_silent():
    mean, told = replay(nn.Tanh)
    assert abs(mean) < 0.02
    assert not told
