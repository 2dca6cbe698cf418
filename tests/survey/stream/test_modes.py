"""The modes of passes, counted in loops as they are written."""

import pytest
import torch
from torch import nn

from plumbob.survey.stream.modes import Modes


def net(norm=True):
    parts = [nn.Linear(4, 4), nn.BatchNorm1d(4) if norm else nn.Identity()]
    return nn.Sequential(*parts, nn.Dropout(0.2), nn.Linear(4, 1))


def told(loop, model=None):
    model = model or net()
    modes = Modes(model)
    model.register_forward_pre_hook(lambda m, args: modes.called(m, args))
    loop(model, modes)
    return modes.passes()


X = torch.ones(4, 4)


def test_an_ordinary_loop():
    def loop(model, modes):
        for _ in range(3):
            model.train()
            model(X), model(X)  # gradients of two batches are added up
            modes.stepped()
        model.eval()
        with torch.no_grad():
            model(X)

    passes = told(loop)
    assert (passes.training, passes.evaluating) == (6, 1)
    assert (passes.trained_in_eval, passes.tested_in_training, passes.streak) == (
        0,
    ) * 3
    assert passes.differs
    assert passes.norms == 1
    assert not passes.frozen
    assert not passes.alone


def test_a_mode_that_is_not_put_back():
    def loop(model, modes):
        for mode in (True, True, False, False, False):
            model.train(mode)(X)
            modes.stepped()

    passes = told(loop)
    assert (passes.training, passes.trained_in_eval, passes.streak) == (2, 3, 3)


def test_an_attack_is_no_training():
    def loop(model, modes):
        for _ in range(2):
            for mode in (False, False, False, True):
                model.train(mode)(X)
            modes.stepped()

    passes = told(loop)
    assert (passes.training, passes.trained_in_eval, passes.streak) == (2, 0, 0)


def test_samples_of_one_output_are_told_from_an_evaluation():
    def loop(model, modes):
        with torch.no_grad():
            for x in (X, X, X, X + 1):
                model(x)

    passes = told(loop)
    assert (passes.tested_in_training, passes.repeated) == (4, 2)


def test_statistics_that_are_frozen_and_batches_of_one():
    def loop(model, modes):
        model.train()
        model[1].eval()
        model(X)

    assert told(loop).frozen == ("1",)
    still = net()
    still[1].requires_grad_(False)
    assert told(loop, still).frozen == ()

    image = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    passes = told(lambda model, modes: model(torch.ones(1, 1, 5, 5)), image)
    assert passes.alone == ("1",)
    assert not passes.frozen


@pytest.mark.parametrize(
    ("model", "differs"),
    [
        (nn.Linear(2, 2), False),
        (nn.Dropout(0.0), False),
        (nn.Dropout(0.1), True),
        (nn.LSTM(2, 2, num_layers=2, dropout=0.1), True),
        (nn.LSTM(2, 2), False),
        (nn.BatchNorm1d(2), True),
        (nn.BatchNorm1d(2, track_running_stats=False), False),
        (nn.LayerNorm(2), False),
    ],
)
def test_where_the_mode_matters(model, differs):
    assert Modes(model).passes().differs is differs
