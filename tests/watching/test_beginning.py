import pytest
import torch
from torch import nn

from netting import seeded
from plumbob.survey.batches import Batch
from plumbob.watching.beginning import begin


def of(reduction):
    model = nn.Linear(3, 1)
    x = torch.randn(64, 3, generator=seeded())
    y = torch.randn(64, 1, generator=seeded(1))
    batches = [Batch(args=(x[:32],), targets=y[:32], samples=32)]
    batches.append(Batch(args=(x[32:],), targets=y[32:], samples=32))
    loss = nn.MSELoss(reduction=reduction)
    return begin(model, batches, loss).output, float(y.var(unbiased=False))


def test_the_best_constant_of_a_sum_is_that_of_a_batch():
    mean, variance = of("mean")
    total, _ = of("sum")
    assert mean.constant == pytest.approx(variance, rel=1e-3)
    assert total.constant == pytest.approx(32 * variance, rel=1e-3)
    assert total.floor == mean.floor == pytest.approx(0, abs=1e-6)
