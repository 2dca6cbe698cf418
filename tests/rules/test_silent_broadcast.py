import pytest
import torch

from asking import found as asked
from asking import normal
from plumbob.rules.silent_broadcast import silent_broadcast

Y = normal(64, seed=1)


def squares(outputs, targets):
    return (outputs - targets).square().mean()


def mmd(outputs, targets):
    """Compare two samples by a kernel, leaving each one's own pair out."""

    def near(a, b):
        return (-((a - b.T) ** 2)).exp()

    n = len(outputs)
    own = sum(near(a, a).sum() - n for a in (outputs, targets)) / (n * (n - 1))
    return own - 2 * near(outputs, targets).mean()


def found(loss, targets, outputs=None):
    outputs = normal(64, 1) if outputs is None else outputs
    return asked(silent_broadcast, loss, outputs, targets)


def of_probabilities(outputs, targets):
    p = outputs.sigmoid()
    return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()


@pytest.mark.parametrize(
    ("loss", "targets", "outputs"),
    [
        (squares, Y, None),
        (squares, 1e8 * Y + 1e9, None),
        (squares, Y[:, None], normal(64)),  # (N,) against (N, 1)
        (lambda o, y: (o - y).abs().sum(), Y, None),
        (of_probabilities, (Y > 0).float(), None),
        # the closure drops the axis itself
        (lambda o, y: squares(o, y[:, 0]), Y[:, None], None),
        (lambda o, y: squares(o, y.flatten()), Y.sort().values[:, None], None),
        (lambda o, y: of_probabilities(o, y[:, 0]), (Y > 0).float()[:, None], None),
    ],
)
def test_all_pairs(loss, targets, outputs):
    (one,) = found(loss, targets, outputs)
    assert one.severity.name == "ERROR"
    assert one.evidence["exact"] > one.evidence["constant"]


def test_a_perfect_prediction_costs_twice_the_variance():
    (one,) = found(squares, Y)
    variance = Y.double().var(correction=0).item()
    assert one.evidence["constant"] == pytest.approx(variance)
    assert one.evidence["exact"] == pytest.approx(2 * variance)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (squares, Y[:, None]),
        (squares, 1e8 * Y[:, None]),  # next to which no output is anything
        (lambda o, y: squares(o[:, 0], y), 1e8 * Y),
        (lambda o, y: squares(o[:, 0], y), Y),
        (lambda o, y: squares(o, y[:, None]), Y),
        (lambda o, y: (o - y).abs().mean(), Y[:, None]),
        (of_probabilities, (Y > 0).float()[:, None]),
        (squares, Y.sort().values[:, None]),
        (squares, torch.arange(64)[:, None] % 2.0),
        (squares, torch.ones(64, 1)),
        (lambda o, y: 1e12 + squares(o, y), Y[:, None]),
        # the targets have no say in what the outputs should be
        (lambda o, y: o.square().mean() + 1e6 * y.square().mean(), Y[:, None]),
        # of whole distributions: nobody's target is anybody's
        (mmd, Y[:, None]),
        (mmd, Y.exp()[:, None]),
        (lambda o, y: (o.var() - y.var()) ** 2 + o.mean() ** 2, Y[:, None]),
        (lambda o, y: (o.mean() - y.mean()) ** 2, Y),
        (lambda o, y: (o[:, 0].sort().values - y.sort().values).square().mean(), Y),
        # the target is not read at all
        (lambda o, y: o.square().mean(), Y),
        # contrastive: every output with every other one
        (lambda o, y: ((o - o.T) - (y[:, None] - y)).square().mean(), Y),
    ],
)
def test_losses_that_pair_as_they_should(loss, targets):
    assert found(loss, targets) == []
