"""Passes that a loop makes beside its own: they are no part of the training."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import plumbob
from loops import Kept, batches, net, sgd, train, watched


def checked(model, x, y, loss):
    plumbob.check(model, [(x, y)], loss=loss)


def traced(model, x, y, loss):
    torch.jit.trace(model, x)  # and traced again, to see whether it is the same


def mapped(model, x, y, loss):
    def one(x, y):
        return loss(model(x[None]), y[None])

    torch.func.vmap(torch.func.grad(one))(x, y)


@pytest.mark.parametrize("act", [checked, traced, mapped])
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_other_passes_are_not_heard(act):
    model, loss, kept = net(), nn.CrossEntropyLoss(), Kept()
    optimizer = sgd(model)
    x, y = next(batches(1))
    with watched(model, optimizer, loss=loss, sinks=[kept]) as watch:
        train(model, optimizer, loss, 3, lambda value: act(model, x, y, loss))
    assert watch.stream.broken is None
    assert "watching" not in watch.unseen
    assert watch.judged.history.held is None
    assert watch.judged.history.passes.training == 3
    if act is not traced:  # which runs the model as it is, too, to compare
        counts = [log.windows["0"].z.count[0] for (log,) in kept.of("write")]
        assert counts == [16] * 3


def test_a_watch_does_not_hear_another():
    model, loss = net(), nn.CrossEntropyLoss()
    optimizer = sgd(model)
    with (
        watched(model, optimizer, loss=loss, graph=True) as one,
        watched(model, optimizer, loss=loss, graph=True, every=7) as two,
    ):
        train(model, optimizer, loss, 20)
    for watch in (one, two):
        history = watch.judged.history
        assert history.held is None
        assert len(history.loss.values) == 20
        assert history.passes.training == 20
        assert history.passes.tested_in_training == 0


def test_weights_that_change_when_they_are_read():
    def trained(watching):
        torch.manual_seed(0)
        model = nn.Sequential(spectral_norm(nn.Linear(4, 8)), nn.Linear(8, 3))
        loss, optimizer = nn.CrossEntropyLoss(), sgd(model)
        if not watching:
            return train(model, optimizer, loss), model.state_dict()
        with watched(model, optimizer, loss=loss, graph=True):
            return train(model, optimizer, loss), model.state_dict()

    (bare, state), (seen, after) = trained(False), trained(True)
    assert bare == seen
    assert all(torch.equal(state[name], after[name]) for name in state)
