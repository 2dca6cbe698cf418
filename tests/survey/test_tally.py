import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbob.survey.tally import Second, Sums, Thinned, largest, moments, nothing

FACTS = ("count", "mean", "m2", "low", "high", "positive", "nonfinite")


def same(a, b, tolerance=1e-12):
    for fact in FACTS:
        one, other = getattr(a, fact), getattr(b, fact)
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
    st.floats(-1e3, 1e3),
    st.integers(0, 2**16),
)
def test_parts_add_up_to_the_whole_in_any_order(sizes, centre, seed):
    generator = torch.Generator().manual_seed(seed)
    t = torch.randn(sum(sizes), 3, generator=generator).double() + centre
    parts = [moments(part, 1)[0] for part in t.split(sizes)]
    whole = moments(t, 1)[0]
    for order in (parts, parts[::-1]):
        total = nothing(3)
        for part in order:
            total = total + part
        same(total, whole)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_units_on_any_axis(axis, layout):
    t = (torch.randn(4, 3, 5, 6).double() + 1).contiguous(memory_format=layout)
    found, beyond = moments(t, axis, above=1.5)
    rows = t.movedim(axis, -1).reshape(-1, t.shape[axis]).numpy()
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.var, rows.var(0), rtol=1e-12)
    np.testing.assert_array_equal(found.low, rows.min(0))
    np.testing.assert_array_equal(found.high, rows.max(0))
    np.testing.assert_array_equal(found.positive, (rows > 0).sum(0))
    np.testing.assert_array_equal(beyond, (abs(rows) > 1.5).sum(0))


def test_gaps_leave_the_rest_as_it_is():
    t = torch.randn(50, 2).double()
    expected = moments(t[:, :1], 1)[0]
    t[7, 1] = float("inf")
    found, _ = moments(t, 1)
    assert found.nonfinite.tolist() == [0, 1]
    assert np.isfinite(found.mean).all()
    np.testing.assert_allclose(found.mean[0], expected.mean[0], rtol=1e-12)


def test_large_finite_values_are_not_taken_for_gaps():
    found, _ = moments(torch.full((8, 1), 3e38), 1)
    assert found.nonfinite[0] == 0
    np.testing.assert_allclose(found.mean, np.float32(3e38), rtol=1e-12)


def test_what_waits_is_added_at_flush():
    t = torch.randn(30, 2).double()
    sums = Sums(above=1.0)
    for i, part in enumerate(t.split(7)):
        sums.add(part, 1, again=i > 0)
        part += 100  # in place, after
    sums.flush()
    whole, beyond = moments(t - 100, 1, above=1.0)
    same(sums.moments, whole, 1e-10)
    np.testing.assert_array_equal(sums.beyond, beyond)


@given(st.lists(st.integers(1, 40), max_size=6), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_thinning_does_not_depend_on_the_batches(sizes, keep):
    rows = torch.arange(sum(sizes))[:, None]
    record = Thinned(keep=keep)
    for part in rows.split(sizes) if sizes else []:
        record.add(part, 1)
    kept = record.value(1)[:, 0]
    assert len(kept) <= keep
    np.testing.assert_array_equal(kept, np.arange(0, len(rows), record.stride))


def test_second_moments_with_and_without_a_matrix():
    x = torch.randn(40, 12).double() + torch.arange(12)
    for batches in ([x], x.split(5), x[:8].split(3)):
        second = Second()
        for part in batches:
            second.add(part, 1)
        rows = np.concatenate([part.numpy() for part in batches])
        for value, centred in zip(second.top(), (False, True), strict=True):
            design = rows - rows.mean(0) if centred else rows
            design = np.hstack([design, np.ones((len(rows), 1))])
            expected = np.linalg.eigvalsh(design.T @ design / len(rows))[-1]
            np.testing.assert_allclose(value, expected, rtol=1e-8)
    broken = Second()
    broken.add(torch.full((2, 2), float("nan")), 1)
    assert broken.top() is None


def test_lanczos():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 80))
    matrix = a.T @ a
    value = largest(lambda v: matrix @ v, 80)
    np.testing.assert_allclose(value, np.linalg.eigvalsh(matrix)[-1], rtol=1e-7)
    assert largest(lambda v: 0 * v, 5) == 0
    assert largest(lambda v: 3 * v, 1) == pytest.approx(3)


def test_second_moments_that_overflow_are_not_told():
    second = Second()
    second.add(torch.randn(64, 3) * 1e30, -1)
    assert second.top() is None
