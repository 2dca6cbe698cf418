import numpy as np
import pytest
import torch

from plumbob.types import Log, Needs, Site, Survey
from plumbob.watching.shown import (
    BARS,
    MOST,
    SAMPLE,
    Histograms,
    histogram,
    listed,
    sentence,
)
from sinking import broken, finding, log


@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [1e8, 1e8, np.nextafter(1e8, 2e8)],
        [-1e308, 1e308],
        [5e-324, 0.0],
        [1.0, 2.0, np.nan, np.inf],
        list(np.random.default_rng(0).normal(size=1000)),
    ],
)
def test_every_finite_value_is_in_a_bar(values):
    found = histogram(np.array(values))
    assert found.counts.sum() == np.isfinite(values).sum()
    assert len(found.counts) == BARS
    assert (np.diff(found.edges) > 0).all()
    assert np.isfinite(found.edges).all()


def test_bars_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=1000)
    counts, edges = np.histogram(values, BARS)
    found = histogram(values)
    assert (found.counts == counts).all()
    np.testing.assert_allclose(found.edges, edges)
    assert found.total == pytest.approx(values.sum())
    assert found.squares == pytest.approx((values**2).sum())


def test_nothing_finite_has_no_bars():
    assert histogram(np.array([np.nan, np.inf])) is None
    assert histogram(np.array([])) is None
    assert Histograms().of(broken(0)) == {}
    assert Histograms().of(Log(step=0)) == {}


def test_effective_biases_are_the_means_of_z():
    found = Histograms().of(log(0, sites=3))
    beta = [i + j / 10 for i in range(3) for j in range(8)]
    assert found["effective bias/all"].total == pytest.approx(sum(beta))
    assert found["bias/all"].total == pytest.approx(3 * sum(range(8)) / 10)
    assert found["effective bias/layer2"].total == pytest.approx(sum(beta[16:]))


def test_few_sites_have_bars_of_their_own_and_keep_them():
    histograms = Histograms()
    first = histograms.of(log(0))
    # the ratio |E[z]| / sd[z] is largest in the last ones
    assert [n for n in first if "/layer" in n] == [
        f"{kind}/layer{i}" for i in (39, 38, 37) for kind in ("effective bias", "bias")
    ]
    histograms.found([finding(site=f"layer{i}") for i in range(10)])
    histograms.found([finding(site=None)])
    assert list(histograms.places) == [
        "layer39",
        "layer38",
        "layer37",
        "layer0",
        "layer1",
        "layer2",
    ]
    assert len(histograms.of(log(1))) == 2 * (MOST + 1)


def test_weights_are_those_of_the_model_that_is_given():
    model = torch.nn.Linear(8, 8)
    torch.nn.init.constant_(model.weight, 0.5)
    site = Site(name="layer0", kind="linear", out=8, fan_in=8, weight="weight")
    histograms = Histograms(model)
    histograms.know(Survey(sites=(site,), known=Needs(0)))
    found = histograms.of(log(0, sites=2))
    assert found["weight/layer0"].total == pytest.approx(32)
    assert "weight/layer1" not in found
    large = Histograms(torch.nn.Linear(300, 300))
    large.know(Survey(sites=(site,), known=Needs(0)))
    counted = large.of(log(0, sites=1))["weight/layer0"].counts.sum()
    assert 0.5 * SAMPLE < counted <= SAMPLE


def test_a_finding_is_one_line():
    assert sentence(finding()) == (
        "error PB701 loss-non-finite at layer7: the loss is not finite "
        "(cause: it overflowed). Lower the learning rate."
    )
    assert listed(()) == "no findings"
    assert listed([finding(), finding(site=None)]).count("\n") == 1
