"""What the tests of the probe share: running it, and its oracle."""

import numpy as np

from plumbob.survey.batches import batches
from plumbob.survey.probe import probe
from plumbob.survey.trace import export, sites


def seen(model, data, *, found=None, options=None, **rest):
    feed = batches(model, data, **(options or {}))
    return probe(model, feed, () if found is None else found, **rest)


def traced(model, *args):
    return sites(model, export(model, args, {}, training=model.training))


def close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def agrees(reading, x, W, b, tolerance=1e-12):
    """E[z] = W mu + b and Var[z] = diag(W Sigma W') over the rows of x, in float64."""
    x, W, b = (np.asarray(t.detach().double()) for t in (x, W, b))
    mu = x.mean(0)
    close(reading.z.mean, W @ mu + b, tolerance)
    close(reading.shift, W @ mu, tolerance)
    sigma = (x - mu).T @ (x - mu) / len(x)
    close(reading.z.var, np.einsum("oi,ij,oj->o", W, sigma, W), tolerance)
    assert (reading.z.count == len(x)).all()


def squared(outputs, targets):
    return (outputs - targets).square().mean()
