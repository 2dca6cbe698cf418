import numpy as np
import pytest
import torch
from torch import nn

from plumbob.survey.measure import measure
from plumbob.survey.spectra import spectra, top
from plumbob.survey.trace import module_sites


@pytest.mark.parametrize("shape", [(40, 40), (200, 12), (9, 300)])
def test_the_top_singular_value_within_its_residual(shape):
    matrix = np.random.default_rng(0).standard_normal(shape)
    found, exact = top(matrix), np.linalg.svd(matrix, compute_uv=False)
    assert found.frobenius**2 == pytest.approx((exact**2).sum())
    assert found.top <= exact[0] * (1 + 1e-12)
    assert np.abs(exact**2 - found.top**2).min() <= found.residual * (1 + 1e-9)
    assert found.stable_rank >= (exact**2).sum() / exact[0] ** 2 * (1 - 1e-12)


def test_near_rank_one_it_is_exact():
    draw = np.random.default_rng(0)
    u, v = draw.standard_normal(50), draw.standard_normal(70)
    matrix = np.outer(u, v) + 0.1 * draw.standard_normal((50, 70))
    found, exact = top(matrix), np.linalg.svd(matrix, compute_uv=False)
    assert found.top == pytest.approx(exact[0], rel=1e-6)
    assert top(np.outer(u, v)).stable_rank == pytest.approx(1)


@pytest.mark.parametrize("size", [1e-40, 1e-30, 1.0, 3e18, 1e20, 1e37])
def test_of_any_size_that_float32_holds(size):
    unit = np.random.default_rng(0).standard_normal((20, 30))
    matrix = (size * unit).astype(np.float32)
    found, exact = top(matrix), np.linalg.svd(unit, compute_uv=False)
    near = 1e-5 if size > 1e-37 else 1e-3  # below it float32 holds fewer digits
    assert found.frobenius == pytest.approx(size * np.linalg.norm(unit), rel=near)
    assert found.stable_rank == pytest.approx(top(unit).stable_rank, rel=near)
    assert found.top <= size * exact[0] * (1 + near)


def test_a_diverged_net_is_still_judged():
    model = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 9))
    model[0].weight.data *= 1e20
    survey = measure(model)
    assert all(survey.readings[name].spectrum for name in ("0", "2"))
    assert spectra(model.double(), survey.sites).keys() == {"0", "2"}
    model[0].weight.data *= 1e100
    assert spectra(model, survey.sites).keys() == {"2"}


def test_what_does_not_converge_has_none(monkeypatch):
    def eigh(_):
        raise np.linalg.LinAlgError

    monkeypatch.setattr(np.linalg, "eigh", eigh)
    assert top(np.ones((9, 9))) is None


def test_no_numbers():
    assert top(np.zeros((9, 9))).stable_rank == 0
    assert top(np.full((9, 9), np.nan)) is None


def test_every_layout_is_the_same_matrix():
    torch.manual_seed(0)
    linear = nn.Linear(12, 9)
    conv = nn.ConvTranspose1d(12, 9, 1)
    conv.weight.data = linear.weight.data.T[:, :, None].clone()
    half = nn.Linear(12, 9).bfloat16()
    half.weight.data = linear.weight.data.bfloat16()
    models = nn.ModuleList([linear, conv, half, nn.Linear(12, 7)])
    found = spectra(models, module_sites(models))
    exact = torch.linalg.svdvals(linear.weight.detach())
    assert list(found) == ["0", "1", "2"]
    for name, spectrum in found.items():
        near = 1e-5 if name != "2" else 1e-2
        assert spectrum.top == pytest.approx(float(exact[0]), rel=near)


def test_nothing_to_find_on_the_meta_device():
    with torch.device("meta"):
        model = nn.Linear(9, 9)
    survey = measure(model)
    assert "spectra" in survey.unseen
