"""One pass over a tensor's values, block by block: every statistic, and rows.

8- and 16-bit formats have so few bit patterns that counting them is the whole
census: moments, quantiles, zeros, NaN and Inf follow from 65,536 counts without
rounding. float32 is counted by its upper 16 bits (quantiles to 0.4 %); its moments
are power sums in float64 about the first block's mean, because E[x^2] - E[x]^2
loses all digits of the variance where the mean is large.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from plumbob.types import Census

BLOCK = 1 << 17  # values in a block: with its float64 copy it stays in the L2 cache
PROBABILITIES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)

# The NumPy dtype that holds a format's bits.
RAW = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "float8_e4m3fn": np.dtype("u1"),
    "float8_e5m2": np.dtype("u1"),
}


def decode(
    raw: Shaped[Any, "*shape"], dtype: str, out: Float[Any, " room"] | None = None
) -> Float[Any, "*shape"]:
    """Return the values of raw bits in float64, exactly; in the memory of `out`."""
    room = np.empty(raw.size) if out is None else out[: raw.size]
    values = room.reshape(raw.shape)
    if dtype == "float8_e4m3fn":
        return np.take(_values(dtype), raw, out=values, mode="clip")
    if dtype == "bfloat16":
        raw = (raw.astype("<u4") << 16).view("<f4")
    elif dtype == "float8_e5m2":
        raw = (raw.astype("<u2") << 8).view("<f2")
    with np.errstate(invalid="ignore"):  # a signalling NaN
        np.copyto(values, raw)
    return values


def census(raw: Shaped[Any, "*shape"], dtype: str, *, trainable: bool = True) -> Census:
    """Return the census of a whole array of raw bits."""
    flat, tally, room = raw.reshape(-1), Tally(dtype), np.empty(BLOCK)
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        tally.add(block, decode(block, dtype, room))
    return tally.census(raw.shape, trainable=trainable)


class Tally:
    """Counts and power sums that grow by one block at a time."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.counted = dtype not in {"float32", "float64"}
        patterns = 0 if dtype == "float64" else 1 << 8 * min(RAW[dtype].itemsize, 2)
        self.counts = np.zeros(patterns, np.int64)
        self.size = self.zeros = self.nans = self.infs = 0
        self.shift: float | None = None
        self.powers = np.zeros(4)
        self.low, self.high = np.inf, -np.inf
        self.room = np.empty((2, 0))  # reused: fresh pages cost more than the sums

    def add(self, raw: Shaped[Any, "..."], values: Float[Any, "..."]) -> None:
        """Count one block, given as raw bits and as the float64 `values` of them."""
        raw = raw.reshape(-1)
        self.size += raw.size
        if self.dtype != "float64":
            patterns = raw.view("u1" if raw.itemsize == 1 else "<u2")
            if self.dtype == "float32":
                patterns = patterns[1::2]
            self.counts += np.bincount(patterns, minlength=self.counts.size)
        if not self.counted and raw.size:
            self._sum(values.reshape(-1))

    def _sum(self, x: Float[Any, " values"]) -> None:
        low, high = x.min(), x.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            nans, infs = int(np.isnan(x).sum()), int(np.isinf(x).sum())
            self.nans, self.infs = self.nans + nans, self.infs + infs
            if not (x := x[np.isfinite(x)]).size:
                return
            low, high = x.min(), x.max()
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low <= 0 <= high:
            self.zeros += x.size - int(np.count_nonzero(x))
        with np.errstate(over="ignore", invalid="ignore"):  # float64 near its end
            if self.shift is None:
                self.shift = float(x.mean())
            if self.room.shape[1] < x.size:
                self.room = np.empty((2, x.size))
            d = np.subtract(x, self.shift, out=self.room[0, : x.size])
            q = np.multiply(d, d, out=self.room[1, : x.size])
            self.powers += (d.sum(), q.sum(), q @ d, q @ q)

    def census(self, shape: tuple[int, ...], *, trainable: bool = True) -> Census:
        """Return the facts of all blocks so far."""
        if self.counted:
            return self._exact(shape, trainable)
        count = self.size - self.nans - self.infs
        if not count:
            return self._facts(shape, trainable)
        with np.errstate(over="ignore", invalid="ignore"):
            s1, s2, s3, s4 = self.powers / count
            var = max(float(s2 - s1**2), 0.0)
            third = s3 - 3 * s1 * s2 + 2 * s1**3
            fourth = s4 - 4 * s1 * s3 + 6 * s1**2 * s2 - 3 * s1**4
        quantiles: dict[float, float] = {}
        if self.counts.size:
            middles = _values("float32")
            used = np.flatnonzero((self.counts > 0) & np.isfinite(middles))
            found = _quantiles(middles[used], self.counts[used])
            quantiles = {
                p: float(min(max(v, self.low), self.high)) for p, v in found.items()
            }
        return self._facts(
            shape,
            trainable,
            mean=(self.shift or 0.0) + float(s1),
            var=var,
            low=float(self.low),
            high=float(self.high),
            quantiles=quantiles,
            **_shape_of(var, float(third), float(fourth)),
        )

    def _exact(self, shape: tuple[int, ...], trainable: bool) -> Census:
        used = np.flatnonzero(self.counts)
        x, n = _values(self.dtype)[used], self.counts[used]
        self.nans, self.infs = int(n[np.isnan(x)].sum()), int(n[np.isinf(x)].sum())
        x, n = x[finite := np.isfinite(x)], n[finite]
        self.zeros = int(n[x == 0].sum())
        if not x.size:
            return self._facts(shape, trainable)
        count = n.sum()
        mean = float(n @ x / count)
        d = x - mean
        var, third, fourth = (float(n @ d**k / count) for k in (2, 3, 4))
        return self._facts(
            shape,
            trainable,
            mean=mean,
            var=var,
            low=float(x.min()),
            high=float(x.max()),
            quantiles=_quantiles(x, n),
            **_shape_of(var, third, fourth),
        )

    def _facts(self, shape: tuple[int, ...], trainable: bool, **facts: Any) -> Census:
        return Census(
            shape=shape,
            dtype=self.dtype,
            count=self.size,
            zeros=self.zeros,
            nans=self.nans,
            infs=self.infs,
            trainable=trainable,
            **facts,
        )


class UnitSums:
    """Squared norms over units and columns of a tensor seen as (outer, unit, inner).

    (out, in) is (1, out, in); its transpose (in, out) is (in, out, 1); a transposed
    convolution (in, out, *size) is (in, out, size). Every unit is summed in the same
    order, so identical units have identical sums: `twins` relies on it.
    """

    def __init__(self, outer: int, units: int, inner: int) -> None:
        self.units = np.zeros(units)
        self.columns = np.zeros((outer, inner))
        self.room = np.empty(0)

    def add(
        self, first: tuple[int, int], values: Float[Any, "outer unit inner"]
    ) -> None:
        """Add a block whose first value stands at (outer, unit) `first`."""
        outer, unit, _ = values.shape
        with np.errstate(over="ignore", invalid="ignore"):  # NaN and Inf stay visible
            if self.room.size < values.size:
                self.room = np.empty(values.size)
            squares = self.room[: values.size].reshape(values.shape)
            np.multiply(values, values, out=squares)
            self.units[first[1] : first[1] + unit] += squares.sum((0, 2))
            self.columns[first[0] : first[0] + outer] += squares.sum(1)


def twins(
    sums: Float[Any, " units"],
    tags: Sequence[Shaped[Any, " units"]],
    blocks: Callable[[], Iterable[tuple[tuple[int, int], Shaped[Any, "a b c"]]]],
) -> Int[Any, " units"]:
    """Return for each unit the first unit whose weights and tags are bit for bit its.

    Tags are further values that units must share: the bias, the group. Only units
    with equal `sums` (squared norms) are read again, from `blocks`, and compared by a
    128-bit digest of their bytes.
    """
    first = np.arange(sums.size)
    _, group, sizes = np.unique(sums, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero((sizes[group] > 1) & np.isfinite(sums))
    if not candidates.size:
        return first
    digests = {j: blake2b(digest_size=16) for j in candidates.tolist()}
    for j, digest in digests.items():
        for tag in tags:
            digest.update(tag[j : j + 1].tobytes())
    for (_, unit), block in blocks():
        for j in candidates[
            (candidates >= unit) & (candidates < unit + block.shape[1])
        ].tolist():
            digests[j].update(block[:, j - unit].tobytes())
    seen: dict[bytes, int] = {}
    for j, digest in digests.items():
        first[j] = seen.setdefault(digest.digest(), j)
    return first


@cache
def _values(dtype: str) -> Float[Any, " patterns"]:
    """Return the value of every bit pattern; for float32 of its upper 16 bits."""
    if dtype == "float32":  # the middle of all values that share these bits
        bits = (np.arange(1 << 16, dtype="<u4") << 16) | 0x8000
        return decode(bits.view("<f4"), dtype)
    if dtype == "float8_e4m3fn":
        bits = np.arange(256)
        power, part = (bits >> 3 & 15) - 7, (bits & 7) / 8
        size = np.where(power > -7, (1 + part) * 2.0**power, part * 2.0**-6)
        size[bits & 127 == 127] = np.nan
        return np.where(bits < 128, size, -size)
    width = RAW[dtype].itemsize
    bits = np.arange(1 << 8 * width).astype(f"<u{width}")
    return decode(bits.view(RAW[dtype]), dtype)


def _quantiles(
    x: Float[Any, " values"], counts: Int[Any, " values"]
) -> dict[float, float]:
    order = np.argsort(x)
    below = np.cumsum(counts[order])
    places = np.searchsorted(below, np.array(PROBABILITIES) * below[-1])
    return dict(zip(PROBABILITIES, x[order][places].tolist(), strict=True))


def _shape_of(var: float, third: float, fourth: float) -> dict[str, float | None]:
    if not (var > 0 and np.isfinite(var) and np.isfinite(fourth)):
        return {"skew": None, "kurtosis": None}
    sd = var**0.5
    return {"skew": third / sd / var, "kurtosis": fourth / var / var}
