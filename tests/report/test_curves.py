"""What curves and bands are made of: paths, scales, thinned series."""

import re

import numpy as np
import pytest

from made_runs import window
from plumbob.report.bands import bands, merged, offset
from plumbob.report.curves import Scale, area, line, scale_of, tag, thinned

M = "\N{MINUS SIGN}"


def test_thinning_keeps_extremes():
    draw = np.random.default_rng(0)
    values = draw.normal(size=10_000)
    values[[77, 5000]] = 40.0, -40.0
    values[100:300] = np.nan
    thin = thinned(np.arange(10_000), values, 9_999, 100)
    assert len(thin.x) == 100
    assert np.nanmax(thin.high) == 40
    assert np.nanmin(thin.low) == -40
    for i in (0, 3, 99):
        part = values[100 * i : 100 * (i + 1)]
        part = np.sort(part[np.isfinite(part)])
        assert thin.low[i] == part[0]
        assert thin.middle[i] == part[(len(part) - 1) // 2]
        assert thin.x[i] == pytest.approx(100 * i + 49.5)
    assert np.isnan([thin.low[1], thin.middle[2], thin.high[2]]).all()


def test_short_series_are_not_thinned():
    thin = thinned([0, 50, 99], [3.0, 1.0, 2.0], 99, 100)
    assert thin.x.tolist() == [0, 50, 99]
    assert thin.low.tolist() == thin.high.tolist() == [3, 1, 2]


def test_bands_pool_the_units_of_merged_windows():
    draw = np.random.default_rng(1)
    row = [window(draw, 10 * i, 10 * i + 9) for i in range(6)]
    two = merged(row, 59, 2)
    assert [(w.first, w.last) for w in two] == [(0, 29), (30, 59)]
    whole = row[0].z + row[1].z + row[2].z
    found = bands([two, two], offset)
    assert found.x.tolist() == [0, 59]
    want = np.quantile(np.tile(whole.mean / whole.sd, 2), (0.05, 0.25, 0.5, 0.75, 0.95))
    assert found.quantiles[0] == pytest.approx(want, rel=1e-12)


def test_paths_are_relative_and_break():
    xs, ys = np.array([0.0, 10, 20, 30, 40]), np.array([5.0, 7, np.nan, 1, 0.4])
    assert line(xs, ys) == "M0 5l10 2M30 1l10-1"
    assert line(xs[:1], ys[:1]) == "M0 5h.5"
    assert area(xs[:2], ys[:2], ys[:2] + 1) == "M0 5l10 2 0 1-10-2z"
    # rounding does not add up over many points
    far = line(np.arange(1000.0), np.full(1000, 0.4) + np.arange(1000) * 0.001)
    assert far.endswith(("1 0", "1 1"))
    assert sum(map(int, re.findall(r"1 ?(-?\d)(?!\d)", far[4:]))) == 1


@pytest.mark.parametrize(
    ("low", "high", "log", "words"),
    [
        (0.0, 10.0, False, ["0", "2", "4", "6", "8", "10"]),
        (-1.0, 1.0, False, [f"{M}1", f"{M}0.5", "0", "0.5", "1"]),
        (1e-3, 1e2, True, ["0.001", "0.01", "0.1", "1", "10", "100"]),
        (2.0, 3.0, True, ["2", "3"]),
    ],
)
def test_ticks_are_round(low, high, log, words):
    scale = Scale(low=low, high=high, start=0.0, end=100.0, log=log)
    assert [word for _, word in scale.ticks(6)] == words


def test_scales_hold_what_they_are_given():
    values = np.array([np.nan, -3.0, 5.0, np.inf])
    scale = scale_of(values, 0.0, 100.0)
    assert scale.low < -3
    assert scale.high > 5
    assert np.isnan(scale([np.nan]))
    assert scale.at(1e300) == 100
    assert scale_of(np.zeros(0), 0.0, 1.0).high == 1
    assert scale_of(np.full(3, 7.0), 0.0, 1.0).at(7) == pytest.approx(0.5)


def test_tags_escape():
    assert tag("a", "<b>", href='"&') == '<a href="&#34;&amp;">&lt;b&gt;</a>'
    assert tag("path", d="M0 0", class_="x", text_anchor="end") == (
        '<path d="M0 0" class="x" text-anchor="end"/>'
    )
