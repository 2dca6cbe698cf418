"""The lowest point of a loss as a function of a constant shift."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite, isnan

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Curve:
    """The loss per sample as a function of a shift of z.

    A loss may refuse what the data never give, as a probability above 1 or a negative
    variance: such a point is infinitely high, and has no slope.
    """

    z: Tensor
    axis: int
    loss: Callable[[Tensor], Tensor]

    def value(self, shift: Float[Tensor, " units"]) -> Tensor:
        """Return the loss with its graph."""
        shape = [1] * self.z.ndim
        shape[self.axis] = -1
        return self.loss(self.z + shift.view(shape))

    def height(self, shift: Tensor) -> float:
        """Return the loss; infinite where it refuses."""
        with torch.no_grad():
            try:
                return float(self.value(shift))
            except Exception:  # the user's own code may raise anything
                return inf

    def slope(self, shift: Tensor) -> tuple[float, Tensor]:
        """Return value and gradient; infinite and NaN where the loss refuses."""
        try:
            return self._slope(shift)
        except Exception:  # the user's own code may raise anything
            return inf, torch.full_like(shift, torch.nan)

    def _slope(self, shift: Tensor) -> tuple[float, Tensor]:
        """Take the slope; `autograd.grad` leaves the loss's own parameters alone."""
        with torch.enable_grad():
            s = shift.detach().requires_grad_()
            value = self.value(s)
            (gradient,) = torch.autograd.grad(value, s)
        return float(value.detach()), gradient

    def lowest(self) -> tuple[Float[Tensor, " units"], float]:
        """Return the best shift and the loss there.

        L-BFGS; then, for losses with corners (absolute error, hinge), bisection on
        the sign of the slope of all units at once. -inf where it falls for ever. What
        the loss raises without a shift is raised.
        """
        s = self.z.new_zeros(self.z.shape[self.axis])
        start, first = self._slope(s)
        if not isfinite(start):
            return s, start
        found = self._lbfgs(s, start)
        _, slope = self.slope(found[0])
        if float(slope.norm()) > 1e-5 * float(first.norm()):
            found = min(found, self._bisect(), key=lambda f: f[1])
        s, low = found
        if low < start and self.height(2 * s) < low - 0.01 * (start - low):
            return s, -inf
        return s, low

    def _lbfgs(self, s: Tensor, start: float) -> tuple[Tensor, float]:
        best = (s.clone(), start)
        s = s.clone().requires_grad_()
        fine = 1e-12 if s.dtype is torch.float64 else 1e-6
        lbfgs = torch.optim.LBFGS(
            [s],
            max_iter=100,
            history_size=20,
            tolerance_grad=fine,
            tolerance_change=fine * 1e-3,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            nonlocal best
            value, s.grad = self.slope(s)
            if value < best[1]:
                best = (s.detach().clone(), value)
            return inf if isnan(value) else value  # torch's line search breaks at NaN

        for _ in range(2):  # a restart frees it from a poor memory
            lbfgs.step(closure)
            lbfgs.state.clear()
            if not bool(torch.isfinite(s).all()):
                break
        return best

    def _bisect(self) -> tuple[Tensor, float]:
        """Exact where the loss is a sum over units, each convex in its shift."""
        zero = self.z.new_zeros(self.z.shape[self.axis])
        down = -self.slope(zero)[1].sign()
        width = torch.full_like(zero, 1e-3)
        for _ in range(60):
            onward = self.slope(down * width)[1].sign() == -down
            if not bool((onward & (down != 0)).any()):
                break
            width = torch.where(onward, width * 2, width)
        near, far = zero, down * width
        for _ in range(60):
            middle = (near + far) / 2
            onward = self.slope(middle)[1].sign() == -down
            near, far = (
                torch.where(onward, middle, near),
                torch.where(onward, far, middle),
            )
        values = [(s, self.height(s)) for s in (near, far)]
        return min(values, key=lambda v: v[1])

    def floor(self) -> float | None:
        """Return the loss of the best z for each sample by itself.

        None where it falls for ever, as that of a density does: where a second search
        as long as the first finds more than a hundredth lower; and where the loss
        refused a z on the way, since one sample then holds up the search of all.
        """
        z = self.z.detach().contiguous().clone().requires_grad_()
        start = low = float(self.loss(self.z.detach()).detach())
        ends: list[float] = []
        refused = False
        lbfgs = torch.optim.LBFGS(
            [z],
            max_iter=25,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            nonlocal low, refused
            try:
                with torch.enable_grad():
                    value = self.loss(z) * len(z)  # so that a sample's slope is its own
                    (slope,) = torch.autograd.grad(value, z)
            except Exception:  # the user's own code may raise anything
                refused, z.grad = True, torch.full_like(z, torch.nan)
                return inf
            z.grad = slope.contiguous()
            here = float(value.detach())
            low = min(low, here / len(z))
            return inf if isnan(here) else here

        for _ in range(2):
            lbfgs.step(closure)
            lbfgs.state.clear()
            ends.append(low)
            if refused:
                return None
        return low if ends[0] - low <= 0.01 * (start - low) else None

    def chance(self, shift: Float[Tensor, " units"]) -> float:
        """Return what so many samples gain by chance: tr G / (h N).

        G is the covariance of the samples' gradients and h the curvature along the
        shift, -(mean gradient . shift) / |shift|^2. Half of it is the gain of a shift
        fitted where none is due, half what it then loses on new samples.
        """
        with torch.enable_grad():
            z = self.z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(z), z)
        n = len(z)
        rows = (
            (n * gradient).movedim(self.axis, 1).flatten(2).sum(2)
            if z.ndim > 2
            else (n * gradient)
        )
        fall = -float(rows.mean(0) @ shift)
        if fall <= 0:
            return 0.0
        return float(rows.var(0, correction=0).sum() * (shift @ shift)) / fall / n
