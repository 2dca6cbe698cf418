"""Two processes over gloo, against the rows of both in float64."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import tapped_ranks

PARTS = ("count", "mean", "m2", "low", "high", "positive", "nonfinite", "beyond")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, tapped_ranks.__file__]
    ranks = [subprocess.Popen([*command, str(rank), str(folder)]) for rank in (0, 1)]
    try:
        assert [rank.wait(60) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    return [np.load(folder / f"{rank}.npz") for rank in (0, 1)]


@pytest.mark.parametrize("kind", ["ddp", "fsdp", "spoilt"])
def test_every_rank_knows_the_units_of_all(found, kind):
    assert (found[0][kind] == found[1][kind]).all()
    for step, pair in zip(found[0][kind], tapped_ranks.batches(), strict=True):
        z = dict(zip(PARTS, step, strict=False))
        for unit in range(tapped_ranks.WIDTH):
            left_out = kind == "spoilt" and unit == 0  # the second rank's are NaN
            x = pair[0] if left_out else torch.cat(pair)
            x = x[:, unit].double().numpy()
            assert z["count"][unit] == len(x)
            assert z["nonfinite"][unit] == left_out * len(pair[1])
            np.testing.assert_allclose(z["mean"][unit], x.mean(), rtol=1e-6)
            np.testing.assert_allclose(z["m2"][unit], x.var() * len(x), rtol=1e-6)
            assert z["low"][unit] == x.min()
            assert z["high"][unit] == x.max()
            assert z["positive"][unit] == len(x)
            assert z["beyond"][unit] == (x > 1001).sum()
        assert step[-1][1] == sum(map(len, pair))  # samples
