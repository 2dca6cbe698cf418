"""Activations of a normal net input: the means that a wide network's signal obeys."""

from collections.abc import Callable
from math import inf, pi, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from plumbob.errors import InputError, did_you_mean, one_line
from plumbob.survey.guard import same_random

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "identity": torch.clone,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "relu6": functional.relu6,
    "tanh": torch.tanh,
    "hardtanh": functional.hardtanh,
    "sigmoid": torch.sigmoid,
    "log_sigmoid": functional.logsigmoid,
    "hardsigmoid": functional.hardsigmoid,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "mish": functional.mish,
    "hardswish": functional.hardswish,
    "elu": functional.elu,
    "celu": functional.celu,
    "selu": functional.selu,
    "sin": torch.sin,
}
FLAT = 0.05  # of the steepest slope: flatter counts as saturated


class Phi:
    """An activation as expectations over a normal z."""

    def __init__(self, activation: Any) -> None:
        self.name, self.function = _named(activation)
        grid = torch.linspace(-8, 8, 1025, dtype=torch.float64)
        with same_random():
            whole, slopes = self.with_slope(grid)
            half, _ = self.with_slope(grid[::2])
        if not torch.allclose(whole[::2], half, atol=1e-9):
            raise InputError(
                f"expected a function that works element by element, got {self.name}, "
                "whose values depend on their neighbours or on chance"
            )
        self.kinks = self._kinks(grid, slopes)
        self.steepest = float(slopes.abs().max())

    def with_slope(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return phi and phi' at z.

        Raises:
            InputError: they cannot be computed, or are not finite.
        """
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            try:
                value = self.function(z)
                (slope,) = torch.autograd.grad(value.sum(), z)
            except Exception as error:  # whatever the user's function raises
                raise InputError(
                    f"{self.name} fails on a float64 tensor {list(z.shape)}: "
                    f"{one_line(error)}; pass a function such as torch.tanh"
                ) from error
        value = value.detach()
        if value.shape != z.shape or not bool((value + slope).isfinite().all()):
            raise InputError(
                f"expected finite values of the shape given, got {list(value.shape)} "
                f"for {list(z.shape)} from {self.name}, which is no activation"
            )
        return value, slope

    def at(self, z: float) -> float:
        """Return phi(z)."""
        return float(self.with_slope(torch.tensor([z], dtype=torch.float64))[0])

    def _kinks(self, grid: Tensor, slopes: Tensor) -> list[float]:
        """Return where phi' jumps: a jump stays when looked at ever more closely."""
        jumps = slopes.diff().abs()
        found: list[float] = []
        for i in (jumps > 0.02 * max(float(slopes.abs().max()), 1e-300)).nonzero():
            low, high = float(grid[i]), float(grid[i + 1])
            for _ in range(45):
                middle = (low + high) / 2
                ends = torch.tensor([low, middle, high], dtype=grid.dtype)
                left, right = self.with_slope(ends)[1].diff().abs().tolist()
                low, high = (low, middle) if left > right else (middle, high)
            ends = torch.tensor([low, high], dtype=grid.dtype)
            if float(self.with_slope(ends)[1].diff().abs()) > 0.5 * float(jumps[i]):
                found.append((low + high) / 2)
        return found

    def moments(self, q: float) -> tuple[float, float, float]:
        """Return E[phi^2], E[phi'^2] and d E[phi^2] / dq at z = sqrt(q) g.

        Gauss-Legendre of 20 points on panels that end at phi's kinks, fine around
        z = 0: for polynomial pieces exact to rounding.
        """
        g, weight = _nodes(q, self.kinks)
        value, slope = (
            t.numpy() for t in self.with_slope(torch.from_numpy(sqrt(q) * g))
        )
        steep = value * slope * g / sqrt(q)
        means = np.stack([value**2, slope**2, steep]) @ weight
        return float(means[0]), float(means[1]), float(means[2])

    def edge(self, q: float) -> tuple[float, float]:
        """Return the sigma_w^2 with chi_1(q) = 1, and the sigma_b^2 that then keeps q.

        The second is below 0 where no biases do.
        """
        square, slopes, _ = self.moments(q)
        if slopes <= 0:
            return inf, -inf
        return 1 / slopes, q - square / slopes

    def flat(self, q: float) -> bool:
        """Say whether more than half of the units are saturated on either side."""
        g, weight = _nodes(q, self.kinks)
        _, slope = self.with_slope(torch.from_numpy(sqrt(q) * g))
        still = weight * (slope.abs().numpy() < FLAT * self.steepest)
        return bool(min(still[g < 0].sum(), still[g > 0].sum()) > 0.25)


def _named(activation: Any) -> tuple[str, Callable[..., Any]]:
    if callable(activation):
        return str(getattr(activation, "__name__", activation)), activation
    name, _, given = str(activation).partition("(")
    if name not in ACTIVATIONS:
        raise InputError(
            f"expected an activation of {', '.join(ACTIVATIONS)}, or a function, got "
            f"{activation!r}.{did_you_mean(name, ACTIVATIONS)}"
        )
    if not given:
        return name, ACTIVATIONS[name]
    try:
        number = float(given.removesuffix(")"))
    except ValueError:
        raise InputError(
            f"expected a number in brackets, as in 'leaky_relu(0.2)', got "
            f"{activation!r}"
        ) from None

    def function(z: Tensor) -> Tensor:
        return ACTIVATIONS[name](z, number)

    return str(activation), function


def _nodes(
    q: float, kinks: list[float]
) -> tuple[Float[np.ndarray, " g"], Float[np.ndarray, " g"]]:
    """Return points g and weights of a standard normal."""
    powers = 2.0 ** np.arange(-4, 11)
    inner = np.concatenate([[0.0], powers, -powers, kinks]) / sqrt(q)
    ends = np.unique(np.concatenate([np.linspace(-12, 12, 49), inner]))
    ends = ends[np.abs(ends) <= 12]
    points, weights = np.polynomial.legendre.leggauss(20)
    middle, half = (ends[1:] + ends[:-1]) / 2, np.diff(ends) / 2
    g = (middle[:, None] + half[:, None] * points).ravel()
    weight = (half[:, None] * weights).ravel()
    return g, weight * np.exp(-(g**2) / 2) / sqrt(2 * pi)
