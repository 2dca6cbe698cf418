"""Moments of the units of a tensor, fast and without cancellation."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from plumbob.types import Moments

CHUNK = 2**20  # elements: the scratch stays near the cache
SMALL = 2**15  # elements: below this a call costs more than the arithmetic
EXACT_IN_FLOAT32 = 2**24

# |z| beyond which the slope is below 5 % of its steepest
SATURATED_ABOVE = {
    "tanh": float(np.arctanh(np.sqrt(0.95))),
    "sigmoid": 2 * float(np.arctanh(np.sqrt(0.95))),
    "softsign": float(np.sqrt(20) - 1),
    "hardtanh": 1.0,
    "hardsigmoid": 3.0,
}


def by_unit(t: Tensor, axis: int) -> Tensor:
    """View a tensor as (rows, units), or (rows, units, places) where units are inside.

    Channels-last memory counts as (rows, units).
    """
    units = t.shape[axis]
    last = t.movedim(axis, -1)
    if last.is_contiguous() or axis in {-1, t.ndim - 1}:
        return last.reshape(-1, units)
    axis %= t.ndim
    return t.reshape(t.shape[:axis].numel(), units, t.shape[axis + 1 :].numel())


def moments(
    t: Tensor, axis: int, *, above: float | None = None
) -> tuple[Moments, Int[Any, " units"] | None]:
    """Return the moments per unit and how many values lie beyond +-`above`.

    Each chunk is shifted by its own mean before it is squared, and chunks are merged
    in float64: float32 values of mean 100 and standard deviation 0.02 keep theirs.
    """
    found: Moments | None = None
    beyond: Int[Any, " units"] | None = None
    t = by_unit(t.detach(), axis)
    if not t.is_floating_point() or t.dtype in {torch.float16, torch.bfloat16}:
        t = t.float()
    rows = max(1, CHUNK // max(1, t[:1].numel()))
    for chunk in t.split(rows):
        part, over = _chunk(chunk, above)
        found = part if found is None else found + part
        beyond = over if beyond is None or over is None else beyond + over
    assert found is not None  # split yields at least one part
    return found, beyond


def _chunk(t: Tensor, above: float | None) -> tuple[Moments, Any]:
    dims = (0,) if t.ndim == 2 else (0, 2)
    units = t.shape[1]
    n = t.numel() // units
    if not n:
        return nothing(units), None if above is None else np.zeros(units, np.int64)
    mean = t.sum(dims) / n
    scratch = t - (mean if t.ndim == 2 else mean[:, None])
    rest = scratch.sum(dims)
    squares = torch.mul(scratch, scratch, out=scratch).sum(dims)
    exact = torch.float64 if n > EXACT_IN_FLOAT32 else t.dtype
    positive = torch.gt(t, 0, out=scratch).sum(dims, dtype=exact)
    facts = [mean, rest, squares, t.amin(dims), t.amax(dims), positive]
    if above is not None:
        torch.gt(torch.abs(t, out=scratch), above, out=scratch)
        facts.append(scratch.sum(dims, dtype=exact))
    packed = torch.stack([f.to(facts[-1].dtype) for f in facts])
    mean, rest, squares, low, high, positive, *over = packed.double().cpu().numpy()
    beyond = over[0].astype(np.int64) if over else None
    if not (np.isfinite(mean).all() and np.isfinite(squares).all()):
        return _with_gaps(t, dims), beyond
    return Moments(
        count=np.full(units, n),
        mean=mean + rest / n,
        m2=np.maximum(squares - rest**2 / n, 0.0),
        low=low,
        high=high,
        positive=positive.astype(np.int64),
        nonfinite=np.zeros(units, np.int64),
    ), beyond


def _with_gaps(t: Tensor, dims: tuple[int, ...]) -> Moments:
    """Return the moments of the finite values, and count the rest; slow and rare."""
    t = t.double()
    finite = t.isfinite()
    count = finite.sum(dims)
    wide = (slice(None),) if t.ndim == 2 else (slice(None), None)
    zero = torch.zeros((), dtype=t.dtype, device=t.device)
    mean = torch.where(finite, t, zero).sum(dims) / count.clamp(min=1)
    d = torch.where(finite, t - mean[wide], zero)
    return Moments(
        count=_np(count),
        mean=_np(mean),
        m2=_np(d.square().sum(dims)),
        low=_np(torch.where(finite, t, torch.inf).amin(dims)),
        high=_np(torch.where(finite, t, -torch.inf).amax(dims)),
        positive=_np((finite & (t > 0)).sum(dims)),
        nonfinite=_np((~finite).sum(dims)),
    )


def nothing(units: int) -> Moments:
    """Return the moments of no values: the zero of `+`."""
    whole, real = np.zeros(units, np.int64), np.zeros(units)
    infinite = np.full(units, np.inf)
    return Moments(
        count=whole,
        mean=real,
        m2=real,
        low=infinite,
        high=-infinite,
        positive=whole,
        nonfinite=whole,
    )


def _np(t: Tensor) -> Any:
    return t.cpu().numpy()


@dataclass(slots=True)
class Sums:
    """Moments that grow; small tensors that come again and again wait together.

    A recurrent layer calls its maps once per time step on a few thousand numbers.
    """

    above: float | None = None
    moments: Moments | None = None
    beyond: Int[Any, " units"] | None = None
    held: list[Tensor] = field(default_factory=list[Tensor])

    def add(self, t: Tensor, axis: int, *, again: bool) -> None:
        """Add the values of a tensor now, or copy it to be added at `flush`."""
        t = by_unit(t.detach(), axis)
        if not again or t.ndim > 2 or t.numel() > SMALL:
            self.merge(*moments(t, 1, above=self.above))
            return
        self.held.append(t.clone())
        if len(self.held) * t.numel() > CHUNK:
            self.flush()

    def merge(self, more: Moments, beyond: Any = None) -> None:
        """Add moments that were measured elsewhere."""
        self.moments = more if self.moments is None else self.moments + more
        if beyond is not None:
            self.beyond = beyond if self.beyond is None else self.beyond + beyond

    def flush(self) -> None:
        """Add what waits."""
        held, self.held = self.held, []
        if held:
            self.merge(*moments(torch.cat(held), 1, above=self.above))


@dataclass(slots=True)
class Thinned:
    """At most `keep` rows of all that came, evenly spaced, the same at every run.

    The spacing grows by 3, which shares no factor with the sizes of images, batches
    and sequences, mostly powers of 2.
    """

    keep: int
    stride: int = 1
    seen: int = 0
    rows: list[Float[Any, "some units"]] = field(default_factory=list[Any])

    def add(self, t: Tensor, axis: int) -> None:
        """Note the rows of a tensor whose units lie on `axis`."""
        units = t.shape[axis]
        last = t.detach().movedim(axis, -1)
        n = last.numel() // max(1, units)
        while -(-(self.seen + n) // self.stride) > self.keep:
            self.stride *= 3
            self.rows = [r[::3] for r in [self.value(units)]]
        first = min(-self.seen % self.stride, n)
        picked = torch.arange(first, n, self.stride)
        if len(picked):
            # by index of position: a reshape would copy the whole tensor
            at = torch.unravel_index(picked.to(t.device), last.shape[:-1])
            self.rows.append(_np(last[at].double()))
        self.seen += n

    def value(self, units: int) -> Float[Any, "kept units"]:
        """Return the rows kept so far."""
        return np.concatenate(self.rows) if self.rows else np.zeros((0, units))


@dataclass(slots=True)
class Second:
    """The second moments of an input, held as rows until a matrix is smaller.

    The rows are shifted by the first batch's mean, which float32 needs.
    """

    shift: Tensor | None = None
    held: list[Tensor] = field(default_factory=list[Tensor])
    gram: Float[Any, "in in"] | None = None
    total: Float[Any, " in"] | None = None
    count: int = 0

    def add(self, t: Tensor, axis: int) -> None:
        """Note the rows of a tensor whose features lie on `axis`."""
        size = t.shape[axis]
        rows = t.detach().movedim(axis, -1).reshape(-1, size)
        rows = rows.float() if rows.dtype != torch.float64 else rows
        if self.shift is None:
            self.shift = rows.mean(0)
        rows = rows - self.shift
        self.count += len(rows)
        sums = _np(rows.sum(0, dtype=torch.float64))
        self.total = sums if self.total is None else self.total + sums
        self.held.append(rows)
        if sum(map(len, self.held)) > size:
            gram = sum(_np((r.T @ r).double()) for r in self.held)
            self.gram = gram if self.gram is None else self.gram + gram
            self.held = []

    def top(self) -> tuple[float, float] | None:
        """Return the largest eigenvalue of E[(x,1)(x,1)'], and with x centred.

        None where anything is not finite.
        """
        if self.total is None or self.shift is None or not self.count:
            return None
        if not np.isfinite(self.total).all():
            return None
        held = _np(torch.cat(self.held).double()) if self.held else None
        offset = self.total / self.count
        mean = offset + _np(self.shift.double())

        def covariance(v: Float[Any, " in"]) -> Float[Any, " in"]:
            out = np.zeros_like(v) if self.gram is None else self.gram @ v
            if held is not None:
                out = out + (held @ v) @ held
            return out / self.count - offset * (offset @ v)

        def raw(v: Float[Any, " more"]) -> Float[Any, " more"]:
            x = covariance(v[:-1]) + mean * (mean @ v[:-1] + v[-1])
            return np.append(x, mean @ v[:-1] + v[-1])

        # (x - mu, 1) is uncorrelated with its 1, whose eigenvalue is 1.
        with np.errstate(over="ignore", invalid="ignore"):
            both = largest(raw, len(mean) + 1), largest(covariance, len(mean))
        return (both[0], max(1.0, both[1])) if np.isfinite(both).all() else None


def largest(
    times: Any, size: int, *, steps: int = 60, tolerance: float = 1e-9
) -> float:
    """Return the largest eigenvalue of a positive semi-definite map, by Lanczos.

    The starting vector is fixed, so the same data give the same number; it is NaN
    where the map overflows.

    References:
        C. Lanczos (1950), An iteration method for the solution of the eigenvalue
        problem of linear differential and integral operators, section 6.
    """
    v = 1 + np.cos(np.arange(size) ** 2)
    basis = [v / np.linalg.norm(v)]
    diagonal: list[float] = []
    beside: list[float] = []
    value = 0.0
    for _ in range(min(steps, size)):
        w = times(basis[-1])
        if not np.isfinite(w @ w):
            return np.nan
        diagonal.append(float(w @ basis[-1]))
        every = np.array(basis)
        for _ in range(2):  # once loses orthogonality
            w = w - every.T @ (every @ w)
        matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        before, value = value, float(np.linalg.eigvalsh(matrix)[-1])
        norm = float(np.linalg.norm(w))
        small = norm <= 1e-12 * max(value, 1e-300)
        if small or (len(diagonal) > 3 and value - before <= tolerance * value):
            break
        beside.append(norm)
        basis.append(w / norm)
    return value
