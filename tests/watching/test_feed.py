import warnings

import pytest
import torch
from torch import nn

from loops import net, sgd, watched


def plain(z):
    return z


def viewed(z):
    return z.squeeze(1)


def cast(z):
    return z.double()


def scaled(z):
    return z * 100


def added(z):
    return z + torch.ones_like(z)


@pytest.mark.parametrize(
    ("made", "known"),
    [(plain, True), (viewed, True), (cast, True), (scaled, False), (added, False)],
)
def test_the_best_constant_is_known_where_the_loss_judges_what_the_model_gave(
    made, known
):
    torch.manual_seed(0)
    model = nn.Sequential(net(), nn.Linear(3, 1))
    loss, optimizer = nn.MSELoss(), sgd(model)
    with watched(model, optimizer, loss=loss, graph=True) as watch:
        for _ in range(6):
            x = torch.randn(64, 4)
            z = made(model(x))
            value = loss(z, (x[:, 0] * 2 + 1).to(z).reshape(z.shape))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    assert (watch.start.output is not None) == known
    if not known:
        assert "what the model returned" in watch.start.unseen["targets"]


def test_what_is_warned_of_in_other_passes_is_not_the_loops():
    model = nn.Sequential(net(), nn.Linear(3, 1))
    loss, optimizer = nn.MSELoss(), sgd(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with watched(model, optimizer, loss=loss, graph=True) as watch:
            for _ in range(3):
                x = torch.randn(64, 4)
                loss(model(x).squeeze(1), x[:, 0]).backward()
                optimizer.step()
    assert watch.start.output is not None  # though it was asked with another shape
