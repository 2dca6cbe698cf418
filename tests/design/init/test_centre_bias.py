import torch
from torch import nn

from nets import mlp, seeded
from plumbob.design.init.centre_bias import centre_bias_


def test_b_is_minus_w_mu_in_every_hidden_layer():
    model = mlp(6, 16, 16, 16, 2, activation=nn.Sigmoid).double()
    x = 3 + torch.randn(200, 6, generator=seeded()).double()
    done = centre_bias_(model, x)
    for layer in (0, 2, 4):
        h = model[:layer](x)
        b = -(model[layer].weight @ h.mean(0))
        torch.testing.assert_close(model[layer].bias, b, atol=1e-12, rtol=0)
    assert list(done) == ["0", "2", "4", "6"]
    assert not model[6].bias.detach().any()


def test_convolutions_count_their_padding_and_norms_are_left():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 4, 2),
        nn.Flatten(),
        nn.Linear(4 * 5 * 5, 2),
    ).double()
    before = model[2].bias.detach().clone()
    x = 3 + torch.randn(16, 3, 6, 6, generator=seeded()).double()
    done = centre_bias_(model, x)
    assert float(model[0](x).detach().mean((0, 2, 3)).abs().max()) < 1e-12
    assert done["2"] == "left: batch-norm follows and subtracts the mean"
    assert done["3"] == "left: a norm's shift is not of W x"
    assert torch.equal(model[2].bias, before)
    assert "mean z at most" in done["5"]
