"""Which function of logits and labels a model's own loss is."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from plumbob.survey.batches import Batch
from plumbob.survey.own_loss import OwnLoss

Z = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) / 50
CLASSES = torch.arange(40) % 3
MANY = (Z > 0).float()
WEIGHTS = torch.tensor([1.0, 1.1, 1.0])
ce, bce = functional.cross_entropy, functional.binary_cross_entropy_with_logits


def found(*batches):
    own = OwnLoss()
    for z, y, loss in batches:
        output = SimpleNamespace(logits=z)
        batch = Batch(kwargs={"labels": y}, samples=len(z))
        own.targets(output, batch, None if loss is None else float(loss))
    return own.found()


@pytest.mark.parametrize(
    ("z", "y", "loss"),
    [
        (Z, CLASSES, ce),
        (Z.view(8, 5, 3), CLASSES.view(8, 5), lambda z, y: ce(z.movedim(2, 1), y)),
        (Z, MANY, bce),
        (Z, MANY, functional.mse_loss),
        (Z[:, :1], MANY[:, 0], lambda z, y: functional.mse_loss(z[:, 0], y)),
    ],
    ids=["classes", "tokens", "many labels", "numbers", "one number"],
)
def test_the_loss_is_recognised(z, y, loss):
    again = found((z, y, loss(z, y)), (z + 1, y, loss(z + 1, y)))
    shifted = SimpleNamespace(logits=z - 1)
    torch.testing.assert_close(again(shifted, y), loss(z - 1, y))


@pytest.mark.parametrize(
    ("z", "y", "loss"),
    [
        (Z, CLASSES, lambda z, y: ce(z, y, weight=WEIGHTS)),
        (Z, CLASSES, lambda z, y: ce(z, y, label_smoothing=0.05)),
        (Z, CLASSES, lambda z, y: ce(z, y) + 0.001),
        (Z, CLASSES, lambda z, y: ce(z[:-1], y[1:])),
        (Z * 0, CLASSES, ce),  # where weights would give the same
        (Z, None, lambda z, y: z.mean()),
        (Z, CLASSES, lambda z, y: None),
    ],
    ids=["weights", "smoothing", "more", "shifted", "zero", "no labels", "no loss"],
)
def test_any_other_is_not(z, y, loss):
    assert found((z, y, loss(z, y))) is None


def test_all_batches_must_agree():
    good, bad = (Z, CLASSES, ce(Z, CLASSES)), (Z, CLASSES, torch.tensor(1.0))
    assert found(good)
    assert found(good, bad) is None
    assert found() is None
