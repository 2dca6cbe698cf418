"""Residual ends and the output at zero: the rest learns from the second step."""

import torch
from torch import nn

from healthy import Encoder, Residual
from nets import mlp, seeded
from plumbob.design import initialise_


def test_branches_are_the_identity_with_and_without_a_norm():
    conv = nn.Sequential(nn.Conv2d(1, 8, 3), Residual(8))
    initialise_(conv, torch.randn(4, 1, 8, 8, generator=seeded()), scheme="zero-last")
    x = torch.randn(2, 8, 6, 6, generator=seeded()).relu()
    assert torch.equal(conv[1](x), x)
    assert bool(conv[1].conv2.weight.any())
    model = Encoder(norm_first=True).eval()
    initialise_(model, torch.randn(4, 8, 8, generator=seeded()), scheme="zero-last")
    x = torch.randn(2, 8, 32, generator=seeded())
    torch.testing.assert_close(model.body.layers[0](x), x)


def test_a_net_with_a_zero_head_learns():
    """Only the head has a gradient at first, then all have."""
    model = mlp(8, 32, 32, 3)
    x = torch.randn(64, 8, generator=seeded())
    y = x[:, :3].argmax(1)
    loss = nn.CrossEntropyLoss()
    initialise_(model, x, targets=y, loss=loss, scheme="zero-last")
    assert not model[-1].weight.any()
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for step in range(60):
        sgd.zero_grad()
        value = loss(model(x), y)
        value.backward()
        assert bool(model[0].weight.grad.any()) == (step > 0)
        sgd.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.2 * losses[0]
