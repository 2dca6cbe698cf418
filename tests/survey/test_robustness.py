import pytest
import torch
from torch import nn

from netting import mlp, seeded
from plumbob import look


def bias_free(*widths, activation=nn.ReLU):
    model = mlp(*widths, activation=activation)
    for layer in model[::2]:
        layer.bias = None
    return model


@pytest.fixture(scope="module")
def x():
    return torch.randn(100, 8, generator=seeded(3))


def test_without_biases_every_gain_is_survived(x):
    found = look(bias_free(8, 16, 16, 4), x).robustness
    assert found.homogeneous
    assert set(found.gains.values()) == {1}
    assert found.error < 1e-5
    assert found.degree == pytest.approx(1)
    assert min(found.offsets.values()) < 1


def test_biases_are_not_homogeneous_and_lose_decisions(x):
    model = mlp(8, 16, 16, 4)
    for layer in model[::2]:
        layer.bias.data = torch.randn(len(layer.bias), generator=seeded(1))
    found = look(model, x).robustness
    assert not found.structure
    assert not found.exact
    assert min(found.gains.values()) < 1
    assert found.degree != pytest.approx(1, abs=1e-3)


def test_the_shares_and_the_error_by_hand(x):
    model = mlp(8, 16, 4)
    model[0].bias.data += 1
    found = look(model, x).robustness
    with torch.no_grad():
        f, half = model(x), model(0.5 * x)
        moved = model(x + x.double().std(correction=0).float())
    same = (f.argmax(1) == half.argmax(1)).double().mean()
    assert found.gains[0.5] == pytest.approx(float(same))
    same = (f.argmax(1) == moved.argmax(1)).double().mean()
    assert found.offsets[1.0] == pytest.approx(float(same))
    error = (half - 0.5 * f).norm() / (0.5 * f).norm()
    assert found.error >= float(error) * (1 - 1e-6)


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, nn.Tanh])
def test_smooth_curves_are_not_homogeneous(x, activation):
    found = look(bias_free(8, 16, 4, activation=activation), x).robustness
    assert not found.structure
    assert not found.exact


def test_one_output_is_judged_by_its_side(x):
    found = look(bias_free(8, 16, 1), x).robustness
    assert set(found.gains.values()) == {1}
    model = bias_free(8, 16, 1).append(nn.Sigmoid())
    assert set(look(model, x).robustness.gains.values()) == {1}


def test_indices_cannot_be_scaled():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    view = look(model, torch.tensor([0, 1, 2, 3]))
    assert view.robustness is None
    assert "0 inputs" in view.survey.unseen["robustness"]


def test_it_is_shown_and_the_spectrum_on_request(x):
    model = bias_free(8, 16, 4)
    view = look(model, x)
    assert "Homogeneous, by structure and by numbers" in str(view)
    assert "Open paths" in str(view)
    exact = torch.linalg.svdvals(model[0].weight.detach().double())
    assert view["0"].spectrum() == pytest.approx(exact.numpy())
    assert "Open paths" not in str(look(model))
