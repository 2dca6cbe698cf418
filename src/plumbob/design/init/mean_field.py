"""Variances of weights and biases at which a signal neither dies nor explodes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import exp, inf, isfinite, log, sqrt

import numpy as np
import torch
from torch import Generator, Tensor

from plumbob.errors import InputError
from plumbob.survey.layers import Layer
from plumbob.survey.normal import Phi

VARIANCES = np.geomspace(1e-8, 1e4, 241)  # of z: where roots are looked for
MARGIN = 1e-9  # of a slope of 1, for rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanField:
    """A wide network of W ~ N(0, sigma_w^2 / fan_in) and b ~ N(0, sigma_b^2).

    `q_star` is the variance of z to which every input comes, `slope` how much of a
    deviation from it is left after a layer (below 1: it is stable), `chi_1` the
    factor by which a layer multiplies the gradient's second moment, and `xi` the
    number of layers after which two inputs are alike or unlike by a factor of e:
    1 / |ln chi_1|, infinite at the edge of chaos.
    """

    activation: str
    sigma_w: float
    sigma_b: float
    q_star: float
    chi_1: float
    slope: float
    xi: float


def mean_field(
    activation: str | Callable[[Tensor], Tensor],
    *,
    sigma_w: float | None = None,
    sigma_b: float | None = None,
    q: float | None = None,
) -> MeanField:
    """Find the weights and biases at which signals pass layers of any number.

    Why:
        The variance of z goes from layer to layer as
        q' = sigma_w^2 E[phi(sqrt(q) g)^2] + sigma_b^2 with g standard normal, and the
        gradient's second moment grows by chi_1 = sigma_w^2 E[phi'(sqrt(q) g)^2]. At
        the edge of chaos chi_1(q*) = 1 at the fixed point q*, so that neither dies.
        A gain that keeps q = 1 for one step is not enough: for gelu and silu it leads
        to a fixed point that repels. So a point counts only if the slope of the map
        q -> q' is at most 1 there.

    Args:
        activation: a name ("tanh", "leaky_relu(0.2)"; a number in brackets is the
            slope, alpha or beta) or any function that works element by element.
        sigma_w: standard deviation of the weights times sqrt(fan_in).
        sigma_b: standard deviation of the biases. Of `sigma_w`, `sigma_b` and `q` give
            one, and the point on the edge of chaos is found; give both sigmas, and
            you are told where these lead.
        q: the variance of z to be kept. Beside a sigma only where every variance is
            kept (relu without biases).

    Returns:
        The point, with q*, chi_1, slope and depth scale.

    Raises:
        InputError: there is no such point, it repels, or it is of no use.

    Example:
        >>> found = mean_field("tanh", sigma_b=0.05**0.5)
        >>> f"sigma_w^2 = {found.sigma_w**2:.3f}, q* = {found.q_star:.3f}"
        'sigma_w^2 = 1.761, q* = 0.570'

    References:
        B. Poole et al. (2016), Exponential expressivity in deep neural networks
        through transient chaos. S. Schoenholz et al. (2017), Deep information
        propagation. S. Hayou et al. (2019), On the impact of the activation function
        on deep neural networks training.
    """
    phi = Phi(activation)
    for name, value in (("sigma_w", sigma_w), ("sigma_b", sigma_b), ("q", q)):
        low = 0 if name == "sigma_b" else 1e-12
        if value is not None and not low <= value < inf:
            raise InputError(f"expected {name} above 0 and finite, got {value}")
    if sigma_w is not None and sigma_b is not None:
        return _led_to(phi, sigma_w, sigma_b)
    if sigma_w is None and sigma_b is None and q is None:
        raise InputError(
            "expected one of sigma_w, sigma_b and q, got none; sigma_b=0.2"
        )
    edge = [phi.edge(float(v)) for v in VARIANCES]
    if all(abs(rest) < 1e-9 * v for v, (_, rest) in zip(VARIANCES, edge, strict=True)):
        return _scale_free(phi, sigma_w, sigma_b, q or 1.0)
    if sigma_w is not None or sigma_b is not None:
        if q is not None:
            raise InputError(
                f"expected q or a sigma for {phi.name}, got both; q follows from the "
                "sigma, so leave it out"
            )
        if sigma_w is None and sigma_b == 0 and phi.at(0.0) == 0:
            return _from_nothing(phi)
        which, aim = (0, sigma_w) if sigma_w is not None else (1, sigma_b)
        found = _roots(lambda v: phi.edge(v)[which], [e[which] for e in edge], aim)
    else:
        found = [q] if q is not None else []
    points = [_point(phi, v) for v in found if phi.edge(v)[1] >= -1e-12]
    given = {"sigma_w": sigma_w, "sigma_b": sigma_b, "q_star": q}
    given = {name: float(v) for name, v in given.items() if v is not None}
    return replace(_best(phi, points, given), **given)


def scheme(
    layer: Layer, *, generator: Generator, sigma_w: float, sigma_b: float
) -> str:
    """Draw W ~ N(0, sigma_w^2 / fan_in) and b ~ N(0, sigma_b^2); say so.

    Args:
        layer: written in place.
        generator: of the draws; on its own device.
        sigma_w: as `mean_field` finds it for the activation before this layer.
        sigma_b: standard deviation of the biases.
    """
    site = layer.site
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    draw = partial(
        torch.randn, generator=generator, dtype=dtype, device=generator.device
    )
    said = f"W ~ N(0, {sigma_w:.4g}^2 / {site.fan_in})"
    with torch.no_grad():
        layer.write(draw(layer.matrix().shape) * (sigma_w / site.fan_in**0.5))
        if layer.bias is None:
            return f"{said}; no bias to draw" if sigma_b else said
        layer.shift(draw(site.out) * sigma_b)
    return f"{said}, b ~ N(0, {sigma_b:.4g}^2)"


def _roots(
    square: Callable[[float], float], known: list[float], aim: float | None
) -> list[float]:
    """Return all q with square(q) = aim^2, by bisection between VARIANCES."""
    assert aim is not None
    rest = np.array(known) - aim**2
    found: list[float] = []
    for i in np.flatnonzero(np.sign(rest[1:]) != np.sign(rest[:-1])):
        low, high = log(VARIANCES[i]), log(VARIANCES[i + 1])
        for _ in range(60):
            middle = (low + high) / 2
            same = (square(exp(middle)) > aim**2) == (rest[i] > 0)
            low, high = (middle, high) if same else (low, middle)
        found.append(exp((low + high) / 2))
    return found


def _led_to(phi: Phi, sigma_w: float, sigma_b: float) -> MeanField:
    """Return the fixed point at which a variance of 1 ends.

    Raises:
        InputError: it grows for ever.
    """

    def growth(q: float) -> float:
        return sigma_w**2 * phi.moments(q)[0] + sigma_b**2 - q

    first = growth(1.0)
    if abs(first) < MARGIN:
        return _point(phi, 1.0, sigma_w**2)
    if first > 0:
        way = [float(v) for v in VARIANCES if v > 1]
    else:
        way = [float(v) for v in VARIANCES[::-1] if v < 1]
    last = 1.0
    for v in way:
        if (growth(v) > 0) != (first > 0):
            near, far = log(last), log(v)
            for _ in range(60):
                middle = (near + far) / 2
                same = (growth(exp(middle)) > 0) == (first > 0)
                near, far = (middle, far) if same else (near, middle)
            return replace(_point(phi, exp(far), sigma_w**2), sigma_b=sigma_b)
        last = v
    if first > 0:
        raise InputError(
            f"at sigma_w = {sigma_w:.4g}, sigma_b = {sigma_b:.4g} the variance of z "
            f"grows for ever in a network of {phi.name}; lower them, or give sigma_b "
            "alone"
        )
    return replace(_point(phi, 1e-20, sigma_w**2), sigma_b=sigma_b, q_star=0.0)


def _point(phi: Phi, q: float, sw2: float | None = None) -> MeanField:
    """Return the point of the edge that keeps q, or that of a given sigma_w^2."""
    square, slopes, steep = phi.moments(q)
    sw2 = 1 / slopes if sw2 is None else sw2
    chi = sw2 * slopes
    return MeanField(
        activation=phi.name,
        sigma_w=sqrt(sw2),
        sigma_b=sqrt(max(0.0, q - sw2 * square)),
        q_star=q,
        chi_1=chi,
        slope=sw2 * steep,
        xi=_depth(chi),
    )


def _depth(chi: float) -> float:
    if chi <= 0:
        return 0.0
    return inf if abs(chi - 1) < MARGIN else 1 / abs(log(chi))


def _best(phi: Phi, points: list[MeanField], given: Mapping[str, float]) -> MeanField:
    """Return the stable point of least variance.

    Raises:
        InputError: there is none.
    """
    asked = ", ".join(f"{name} = {v:.4g}" for name, v in given.items())
    if not points:
        raise InputError(
            f"{phi.name} has no edge of chaos at {asked}: no variance of z is kept "
            f"with chi_1 = 1; {_where(phi)}"
        )
    stable = [p for p in points if p.slope <= 1 + MARGIN]
    if not stable:
        p = points[0]
        raise InputError(
            f"{phi.name} has no stable edge of chaos at {asked}: at sigma_w = "
            f"{p.sigma_w:.4g} the variance {p.q_star:.4g} of z repels (its map has the "
            f"slope {p.slope:.3f}, above 1), so it drifts away; {_where(phi)}"
        )
    if phi.flat(stable[0].q_star):
        p = stable[0]
        raise InputError(
            f"{phi.name} has no practical edge of chaos at {asked}: it lies at sigma_w "
            f"= {p.sigma_w:.4g} and variance {p.q_star:.4g} of z, where more than half "
            f"of the units are saturated; {_where(phi)}"
        )
    return stable[0]


def _where(phi: Phi) -> str:
    """Say where the edge is stable and of use."""
    good: list[float] = []
    for v in map(float, VARIANCES):
        sw2, sb2 = phi.edge(v)
        if sb2 >= 0 and isfinite(sw2) and phi.moments(v)[2] * sw2 <= 1:
            good += [] if phi.flat(v) else [sqrt(sb2)]
    if not good:
        return "take an activation that has one, such as tanh or selu"
    return f"stable points have sigma_b from {min(good):.2g} to {max(good):.2g}"


def _scale_free(
    phi: Phi, sigma_w: float | None, sigma_b: float | None, q: float
) -> MeanField:
    """Return the point of a phi with phi(a z) = a phi(z), which keeps every q.

    Raises:
        InputError: the biases or the weights given leave it.
    """
    point = _point(phi, q)
    if sigma_b:
        raise InputError(
            f"{phi.name} has an edge of chaos without biases only: at sigma_b = "
            f"{sigma_b:.4g} the variance of z grows by {sigma_b**2:.4g} in each layer "
            "and never comes to rest; set sigma_b=0"
        )
    if sigma_w is not None and abs(sigma_w - point.sigma_w) > 1e-6:
        raise InputError(
            f"{phi.name} has its edge of chaos at sigma_w = {point.sigma_w:.6g} only, "
            f"got {sigma_w:.6g}; leave sigma_w out and set sigma_b=0"
        )
    return point


def _from_nothing(phi: Phi) -> MeanField:
    """Return the edge without biases, q* = 0, where that attracts.

    Raises:
        InputError: it repels.
    """
    tiny = float(VARIANCES[0])
    point = _point(phi, 1e-20)
    if point.sigma_w**2 * phi.moments(tiny)[0] > tiny * (1 + MARGIN):
        raise InputError(
            f"{phi.name} has no stable edge of chaos at sigma_b = 0: with sigma_w = "
            f"{point.sigma_w:.4g} small variances of z grow; {_where(phi)}"
        )
    return replace(point, sigma_b=0.0, q_star=0.0)
