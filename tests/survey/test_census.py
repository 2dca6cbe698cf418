import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbob.survey.census import PROBABILITIES, RAW, Tally, census, decode, twins


def oracle(x):
    """Textbook moments of the finite values in float64."""
    x = x[np.isfinite(x)]
    d = x - x.mean()
    var = (d**2).mean()
    return x.mean(), var, (d**3).mean() / var**1.5, (d**4).mean() / var**2


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [(name, raw) for name, raw in RAW.items() if raw.itemsize <= 2],
)
def test_every_pattern_is_read_as_torch_reads_it(dtype, raw):
    bits = np.arange(1 << 8 * raw.itemsize).astype(f"<u{raw.itemsize}").view(raw)
    view = torch.from_numpy(bits.view(f"i{raw.itemsize}"))
    expected = view.view(getattr(torch, dtype)).double().numpy()
    np.testing.assert_array_equal(decode(bits, dtype), expected)


@pytest.mark.parametrize("dtype", list(RAW))
def test_every_fact_against_float64(dtype):
    generator = torch.Generator().manual_seed(0)
    t = torch.randn(300, 1000, generator=generator) * 3 + 1
    t[0, :7] = 0
    t[1, 1] = float("nan")
    if dtype != "float8_e4m3fn":
        t[1, 2:4] = float("inf")
    t = t.to(getattr(torch, dtype))
    x = t.double().numpy()
    width = t.element_size()
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    found = census(t.view(integers[width]).numpy().view(RAW[dtype]), dtype)
    mean, var, skew, kurtosis = oracle(x)
    assert (found.shape, found.count) == ((300, 1000), 300_000)
    assert found.nans == np.isnan(x).sum()
    assert found.infs == np.isinf(x).sum()
    assert found.zeros == (x == 0).sum() >= 7
    finite = x[np.isfinite(x)]
    assert (found.low, found.high) == (finite.min(), finite.max())
    assert found.mean == pytest.approx(mean, rel=1e-12)
    assert found.var == pytest.approx(var, rel=1e-12)
    assert found.skew == pytest.approx(skew, rel=1e-9, abs=1e-10)
    assert found.kurtosis == pytest.approx(kurtosis, rel=1e-10)
    if dtype != "float64":
        exact = np.quantile(finite, PROBABILITIES, method="inverted_cdf")
        rel = 2**-8 if dtype == "float32" else 0
        assert list(found.quantiles.values()) == pytest.approx(exact, rel=rel, abs=0)


def test_a_large_mean_does_not_eat_the_variance():
    x = np.random.default_rng(0).normal(100, 0.02, 400_000).astype(np.float32)
    found = census(x, "float32")
    assert found.var == pytest.approx(x.astype(float).var(), rel=1e-10)
    # what the sums of squares would give in float32: nothing right
    assert abs((x**2).mean() - x.mean() ** 2 - found.var) > 0.5 * found.var


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_nothing_finite_and_nothing_at_all(dtype):
    nan = np.full(3, 0x7FC0, "<u2") if dtype == "bfloat16" else np.full(3, np.nan)
    assert census(nan.astype(RAW[dtype]), dtype).nans == 3
    assert census(np.zeros(0, RAW[dtype]), dtype).count == 0
    constant = census(np.zeros(5, RAW[dtype]), dtype)
    assert (constant.zeros, constant.var, constant.skew) == (5, 0, None)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 1000), max_size=6),
    dtype=st.sampled_from(["float32", "float64", "float16"]),
    mean=st.sampled_from([0.0, 1e3, -7.0]),
)
def test_any_cut_into_blocks_gives_the_same_census(cuts, dtype, mean):
    x = np.random.default_rng(1).normal(mean, 1, 1000).astype(RAW[dtype])
    tally = Tally(dtype)
    for part in np.split(x, sorted(cuts)):
        tally.add(part, decode(part, dtype))
    one, many = census(x, dtype), tally.census(x.shape)
    assert (one.zeros, one.low, one.high) == (many.zeros, many.low, many.high)
    assert one.quantiles == many.quantiles
    assert many.mean == pytest.approx(one.mean, rel=1e-12)
    assert many.var == pytest.approx(one.var, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.booleans())
def test_twins_are_the_first_equal_rows(pattern, signs):
    W = np.random.default_rng(0).choice([-1.0, 1.0], (4, 9))[pattern]  # equal norms
    bias = np.array(pattern) % 2 if signs else np.zeros(len(pattern))
    found = twins((W**2).sum(1), [bias], lambda: [((0, 0), W[None])])
    rows = [(*row, b) for row, b in zip(W.tolist(), bias, strict=True)]
    assert found.tolist() == [rows.index(row) for row in rows]
