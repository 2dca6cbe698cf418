"""Moments are a monoid: any order, any split, the same as all at once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbob.types import Moments


def moments(values):
    """Return the moments of (rows, units), one unit, in plain formulas."""
    finite = np.isfinite(values)
    kept = values[finite]
    mean = kept.mean() if kept.size else 0.0
    return Moments(
        count=np.array([kept.size]),
        mean=np.array([mean], float),
        m2=np.array([((kept - mean) ** 2).sum()], float),
        low=np.array([kept.min(initial=np.inf)], float),
        high=np.array([kept.max(initial=-np.inf)], float),
        positive=np.array([(kept > 0).sum()]),
        nonfinite=np.array([(~finite).sum()]),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3) | st.just(np.nan), max_size=60),
    st.lists(st.integers(0, 60), max_size=4),
    st.floats(-1e4, 1e4),
    st.randoms(use_true_random=False),
)
def test_any_split_in_any_order_is_the_whole(values, cuts, offset, random):
    values = np.array(values, float) + offset
    parts = [moments(part) for part in np.split(values, sorted(cuts))]
    random.shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = merged + part
    whole = moments(values)
    for name in ("count", "low", "high", "positive", "nonfinite"):
        assert getattr(merged, name) == getattr(whole, name)
    scale = np.abs(values[np.isfinite(values)]).max(initial=1)
    assert abs(merged.mean - whole.mean) <= 1e-12 * scale
    assert abs(merged.m2 - whole.m2) <= 1e-12 * scale**2 * max(whole.count[0], 1)


def test_small_spread_far_from_zero():
    values = 100 + 0.02 * np.random.default_rng(0).standard_normal(10_000)
    merged = moments(values[:1])
    for part in np.split(values[1:], 37 * np.arange(1, 270)):
        merged = merged + moments(part)
    assert np.allclose(merged.sd, values.std(), rtol=1e-10)
