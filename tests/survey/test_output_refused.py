"""Losses that raise at outputs which the model never gives."""

from math import log

import pytest
import torch
from torch import nn
from torch.nn import functional

from nets import seeded
from plumbob.survey.output import output_facts

N, P = 1000, 0.03
BINARY = (torch.randperm(N, generator=seeded()) < P * N).float()


@pytest.mark.parametrize(
    "link",
    [
        functional.hardsigmoid,
        lambda z: 0.5 + 0.5 * z.tanh(),
        lambda z: z.sigmoid().square(),
        lambda z: z.clamp(0.01, 0.99),
    ],
)
def test_a_loss_of_probabilities_that_refuses_all_others(link):
    outputs = link(torch.randn(N, generator=seeded()))
    facts, _ = output_facts([], outputs, BINARY, nn.BCELoss())
    assert facts.constant == pytest.approx(-P * log(P) - (1 - P) * log(1 - P))
    assert facts.shifted <= facts.loss
    assert facts.floor is None


def normal(o, y):
    normal = torch.distributions.Normal(o[:, 0], o[:, 1], validate_args=True)
    return -normal.log_prob(y).mean()


def test_a_loss_that_refuses_an_output_of_zero():
    outputs = torch.rand(N, 2, generator=seeded()) + 0.1
    facts, unseen = output_facts([], outputs, BINARY.flip(0), normal)
    assert facts is None
    assert "scale" in unseen["targets"]
