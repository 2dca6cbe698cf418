"""Weights first, then biases: z has mean 0 and variance 1 on the data."""

import numpy as np
import pytest
import torch
from torch import nn

from nets import seeded
from plumbob import InputError
from plumbob.design import initialise_
from plumbob.survey.batches import batches
from plumbob.survey.layers import layers
from plumbob.survey.probe import probe
from plumbob.survey.trace import module_sites


def stack(depth=5, width=64):
    torch.manual_seed(0)
    maps = [m for _ in range(depth) for m in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*maps, nn.Linear(width, 10))


def uncentred():
    return torch.randn(512, 64, generator=seeded()) + 1


def moments(model, x, names=None):
    """Return the units' means and variances of z, site by site."""
    sites = [s for s in module_sites(model) if s.kind != "norm"]
    probed = probe(model, list(batches(model, x)), sites, gradients=False)
    found = [r.z for n, r in probed.readings.items() if names is None or n in names]
    return [z.mean for z in found], [z.var for z in found]


def bias_first(model, x):
    """The other order: the mean is taken away before W is scaled."""
    feed = list(batches(model, x))
    found, _ = layers(model, module_sites(model))
    for layer in found.values():
        for part in ("bias", "weight"):
            z = probe(model, feed, [layer.site], gradients=False)
            z = z.readings[layer.site.name].z
            if part == "bias":
                layer.shift(layer.vector() - torch.tensor(z.mean).float())
            else:
                layer.write(layer.matrix() / float(np.sqrt(z.var.mean())))


def test_weights_first_leaves_a_hundred_millionth_and_bias_first_tenths():
    x = uncentred()
    model = stack()
    initialise_(model, x, scheme="lsuv")
    means, variances = moments(model, x)
    assert all(np.abs(m).mean() < 1e-7 for m in means)
    assert all(abs(m.mean()) < 2e-8 for m in means)
    assert all(abs(v.mean() - 1) < 0.03 for v in variances)
    other = stack()
    initialise_(other, x, scheme="orthogonal")
    bias_first(other, x)
    means, variances = moments(other, x)
    assert all(0.04 < np.abs(m).mean() < 0.6 for m in means[1:])
    assert all(abs(v.mean() - 1) < 1e-5 for v in variances)


def test_convolutions_in_batches_and_layers_without_a_bias():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()
    )
    loader = [torch.rand(16, 1, 8, 8, generator=seeded(i)) for i in range(3)]
    done = {
        row.site: row.what for row in initialise_(model, loader, scheme="lsuv").rows
    }
    assert "bias" not in done["0"]
    means, variances = moments(model, loader)
    assert [abs(v.mean() - 1) < 0.03 for v in variances] == [True, True]
    assert np.abs(means[0]).mean() > 0.1
    assert np.abs(means[1]).max() < 1e-6


def test_maps_before_a_norm_and_recurrent_ones_keep_their_orthogonal_weights():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())
    x = torch.randn(64, 8, generator=seeded())
    initialise_(model, x, scheme="lsuv")
    W = model[0].weight.detach()
    torch.testing.assert_close(W @ W.T, torch.eye(8), atol=1e-5, rtol=0)
    assert int(model[1].num_batches_tracked) == 0


def test_a_constant_layer_is_not_scaled_and_infinite_data_are_refused():
    model = stack(1)
    done = {
        r.site: r.what
        for r in initialise_(model, torch.zeros(8, 64), scheme="lsuv").rows
    }
    assert "one value on these data" in done["0"]
    before = model[0].weight.detach().clone()
    with pytest.raises(InputError, match="finite values from 0 "):
        initialise_(model, torch.full((8, 64), torch.inf), scheme="lsuv")
    assert torch.equal(before, model[0].weight)
