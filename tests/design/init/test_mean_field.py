from math import erf, exp, inf, pi, sqrt

import pytest
import torch
from scipy import integrate
from torch import nn

from nets import seeded
from plumbob.design.init.mean_field import mean_field, scheme
from plumbob.errors import InputError
from plumbob.survey.layers import layers
from plumbob.survey.modules import module_sites
from plumbob.survey.normal import Phi


@pytest.mark.parametrize(
    ("sigma_b", "sigma_w", "q"),
    [
        (0.05, 1.12254, 0.1537),
        (0.1, 1.19340, 0.2733),
        (0.2, 1.30415, 0.5121),
        (0.3, 1.39558, 0.7635),
        (0.5, 1.54967, 1.3179),
    ],
)
def test_critical_line_of_tanh(sigma_b, sigma_w, q):
    found = mean_field("tanh", sigma_b=sigma_b)
    assert found.sigma_w == pytest.approx(sigma_w, abs=6e-6)
    assert found.q_star == pytest.approx(q, abs=6e-5)
    assert found.chi_1 == pytest.approx(1, abs=1e-12)
    assert found.xi == inf
    assert found.sigma_b == sigma_b


def test_the_published_point_of_tanh():
    found = mean_field(torch.tanh, sigma_b=sqrt(0.05))
    assert found.sigma_w**2 == pytest.approx(1.761, abs=5e-4)
    assert found.q_star == pytest.approx(0.570, abs=5e-4)
    assert mean_field("tanh", q=found.q_star).sigma_b == pytest.approx(sqrt(0.05))
    back = mean_field("tanh", sigma_w=found.sigma_w)
    assert back.sigma_b == pytest.approx(sqrt(0.05), abs=1e-9)


@pytest.mark.parametrize(
    ("square", "chi", "xi"),
    [
        (1.0, 0.759, 3.6),
        (1.3, 0.880, 7.8),
        (1.5, 0.939, 15.8),
        (2.0, 1.048, 21.5),
        (2.5, 1.134, 8.0),
        (3.0, 1.209, 5.3),
        (4.0, 1.342, 3.4),
    ],
)
def test_depth_scale_off_the_line(square, chi, xi):
    found = mean_field("tanh", sigma_w=sqrt(square), sigma_b=sqrt(0.05))
    assert found.chi_1 == pytest.approx(chi, abs=6e-4)
    assert found.xi == pytest.approx(xi, abs=0.06)


@pytest.mark.parametrize(
    ("name", "square", "slope"),
    [
        ("relu", 0.5, 0.5),
        ("leaky_relu(0.2)", 0.52, 0.52),
        ("tanh", 0.39429, 0.46440),
        ("sigmoid", 0.29338, 0.04484),
        ("gelu", 0.42522, 0.45585),
        ("silu", 0.35578, 0.37948),
        ("elu", 0.64495, 0.66810),
        ("selu", 1.0, 1.0716),
        ("mish", 0.45234, 0.47908),
    ],
)
def test_moments_at_variance_1(name, square, slope):
    found = Phi(name).moments(1.0)
    assert found[:2] == pytest.approx(
        (square, slope), abs=6e-6 if name != "selu" else 6e-5
    )


@pytest.mark.parametrize("q", [1e-6, 0.3, 4.0, 100.0])
def test_kinks_cost_no_accuracy(q):
    assert Phi("relu").moments(q)[0] == pytest.approx(q / 2, rel=1e-13)
    assert Phi("relu").moments(q)[1:] == pytest.approx((0.5, 0.5), rel=1e-13)
    wide = erf(1 / sqrt(2 * q))
    assert Phi("hardtanh").moments(q)[1] == pytest.approx(wide, rel=1e-12)
    odd = Phi(lambda z: torch.relu(z - 0.3))  # a kink that no name tells
    s = sqrt(q)
    oracle = integrate.quad(
        lambda g: max(0, s * g - 0.3) ** 2 * exp(-g * g / 2),
        0.3 / s,
        max(12, 0.3 / s + 1),
        epsabs=0,
    )
    assert odd.moments(q)[0] == pytest.approx(oracle[0] / sqrt(2 * pi), abs=1e-9 * q)


def test_slope_is_the_derivative_of_the_map():
    phi, h = Phi("gelu"), 1e-5
    rise = phi.moments(0.7 + h)[0] - phi.moments(0.7 - h)[0]
    assert phi.moments(0.7)[2] == pytest.approx(rise / (2 * h), rel=1e-7)


@pytest.mark.parametrize(
    ("name", "sigma_b", "sigma_w"),
    [
        ("elu", 0.05, 1.132),
        ("elu", 0.5, 1.306),
        ("selu", 0.05, 0.822),
        ("selu", 0.5, 1.050),
        ("gelu", 0.5, 1.400),
        ("relu", 0.0, sqrt(2)),
        ("leaky_relu(0.2)", 0.0, 1.3868),
        ("tanh", 0.0, 1.0),
        ("relu6", 0.0, sqrt(2)),
    ],
)
def test_stable_points(name, sigma_b, sigma_w):
    found = mean_field(name, sigma_b=sigma_b)
    assert found.sigma_w == pytest.approx(sigma_w, abs=6e-4)
    assert found.slope <= 1 + 1e-9


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("gelu", {"sigma_b": 0.05}, "repels .* slope 1.064.* from 0.43 to"),
        ("gelu", {"sigma_b": 0.0}, "small variances of z grow"),
        ("silu", {"sigma_b": 0.5}, "sigma_w = 1.457 the variance 4.428 of z repels"),
        ("sigmoid", {"sigma_b": 0.2}, "no practical edge .* 10.15 and variance 45.71"),
        ("relu", {"sigma_b": 0.1}, "grows by 0.01 in each layer"),
        ("relu", {"sigma_w": 1.0}, "sigma_w = 1.41421 only"),
        ("relu", {"sigma_w": 2.0, "sigma_b": 0.0}, "grows for ever"),
        ("softplus", {"sigma_b": 0.2}, "no edge of chaos"),
        ("tanh", {}, "got none"),
        ("tanh", {"q": 1.0, "sigma_b": 1.0}, "got both"),
        ("tanh", {"sigma_b": -1.0}, "above 0 and finite"),
        ("tahn", {"sigma_b": 1.0}, "Did you mean 'tanh'"),
        ("leaky_relu(x)", {"sigma_b": 0.0}, "number in brackets"),
        (nn.Softmax(0), {"sigma_b": 0.0}, "element by element"),
        (nn.Dropout(0.5), {"sigma_b": 0.0}, "by element, .* or on chance"),
        (torch.log, {"sigma_b": 0.0}, "finite values"),
    ],
)
def test_what_is_refused(name, given, said):
    with pytest.raises(InputError, match=said):
        mean_field(name, **given)


def test_default_linear_layers_end_where_the_biases_rule():
    found = mean_field("relu", sigma_w=sqrt(1 / 3), sigma_b=sqrt(1 / 768))
    assert found.q_star == pytest.approx(0.0015625)
    assert found.chi_1 == pytest.approx(1 / 6)
    dying = mean_field("gelu", sigma_w=sqrt(2), sigma_b=0.0)
    assert (dying.q_star, dying.chi_1) == (0, pytest.approx(0.5))


def test_a_deep_net_keeps_the_variance_that_is_foretold():
    point = mean_field("tanh", sigma_b=sqrt(0.05))
    model = nn.Sequential(*(nn.Linear(500, 500) for _ in range(8)))
    found, _ = layers(model, module_sites(model))
    for layer in found.values():
        said = scheme(
            layer, generator=seeded(), sigma_w=point.sigma_w, sigma_b=point.sigma_b
        )
    assert said == "W ~ N(0, 1.327^2 / 500), b ~ N(0, 0.2236^2)"
    generator = seeded()
    for layer in found.values():  # not the same weights in every layer
        scheme(layer, generator=generator, sigma_w=point.sigma_w, sigma_b=point.sigma_b)
    x = torch.randn(64, 500, generator=seeded(1))
    for linear in model:
        z = linear(x)
        x = torch.tanh(z)
    assert float(z.detach().var()) == pytest.approx(point.q_star, rel=0.1)


def test_draws_have_the_moments_asked_for():
    model = nn.Sequential(
        nn.Conv2d(64, 128, 3, groups=2), nn.Linear(300, 200, bias=False)
    )
    found, _ = layers(model, module_sites(model))
    said = [
        scheme(layer, generator=seeded(), sigma_w=1.5, sigma_b=0.3)
        for layer in found.values()
    ]
    assert said[1].endswith("no bias to draw")
    for module, fan_in in zip(model, (288, 300), strict=True):
        w, n = module.weight.detach(), module.weight.numel()
        assert abs(float(w.var()) * fan_in / 2.25 - 1) < 4 * sqrt(2 / n)
    assert abs(float(model[0].bias.detach().var()) / 0.09 - 1) < 4 * sqrt(2 / 128)
