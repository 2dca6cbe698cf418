import pytest
import torch
from torch import nn, optim

from plumbob.design.penalties.keras_l2 import keras_l2
from plumbob.errors import InputError


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.RMSprop, optim.Adagrad])
def test_the_same_steps_as_the_penalty_in_the_loss(kind):
    a, b = (nn.Linear(3, 1).double() for _ in range(2))
    b.load_state_dict(a.state_dict())
    x = torch.randn(16, 3, dtype=torch.float64)
    decayed = kind(a.parameters(), lr=0.05, weight_decay=keras_l2(0.1, kind))
    plain = kind(b.parameters(), lr=0.05)
    for _ in range(5):
        decayed.zero_grad()
        plain.zero_grad()
        a(x).square().mean().backward()
        penalty = sum(0.1 * p.square().sum() for p in b.parameters())
        (b(x).square().mean() + penalty).backward()
        decayed.step()
        plain.step()
    torch.testing.assert_close(a.weight, b.weight, rtol=1e-12, atol=1e-14)


def test_what_is_refused():
    model = nn.Linear(1, 1)
    for given in (optim.AdamW, optim.AdamW(model.parameters())):
        with pytest.raises(InputError, match="got AdamW, which subtracts"):
            keras_l2(0.1, given)
    with pytest.raises(InputError, match="got LBFGS, which has none"):
        keras_l2(0.1, optim.LBFGS)
    with pytest.raises(InputError, match="got Muon, which subtracts"):
        keras_l2(0.1, optim.Muon)
    coupled = optim.RAdam(model.parameters())
    assert keras_l2(0.25, coupled) == pytest.approx(0.5)
