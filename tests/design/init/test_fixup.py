"""Fixup: branches start as the identity, scaled by their number."""

import pytest
import torch
from torch import nn

from healthy import Encoder, Residual
from nets import seeded
from plumbob import InputError
from plumbob.design import initialise_


class Branch(nn.Module):
    def __init__(self, width, maps):
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in range(maps))

    def forward(self, x):
        y = x
        for one in self.maps:
            y = one(y.relu())
        return x + y


def net(branches, maps, width=64):
    torch.manual_seed(0)
    body = [Branch(width, maps) for _ in range(branches)]
    return nn.Sequential(nn.Linear(16, width), *body, nn.Linear(width, 3))


X = torch.randn(8, 16, generator=seeded())


@pytest.mark.parametrize(("branches", "maps"), [(5, 2), (2, 3)])
def test_branches_start_as_the_identity_and_are_scaled(branches, maps):
    model = net(branches, maps)
    done = {row.site: row.what for row in initialise_(model, X, scheme="fixup").rows}
    hidden = model[0](X)
    for branch in model[1:-1]:
        torch.testing.assert_close(branch(hidden), hidden)
        assert not branch.maps[-1].weight.any()
        factor = branches ** (-1 / (2 * maps - 2))
        for one in branch.maps[:-1]:
            sd = float(one.weight.detach().square().mean().sqrt())
            assert sd == pytest.approx(factor * (2 / 64) ** 0.5, rel=0.05)
    assert not model(X).any()
    assert f"{branches}^(-1/{2 * maps - 2})" in done["1.maps.0"]
    assert "times" not in done["0"]


def test_a_branch_of_one_map_is_only_set_to_zero():
    model = net(3, 1)
    initialise_(model, X, scheme="fixup")
    assert not model[1].maps[0].weight.any()
    assert bool(model[0].weight.any())


def moved(branches, factor):
    """Return how far one step of SGD on the branches moves the output."""
    model = net(branches, 2)
    initialise_(model, X, scheme="fixup")
    with torch.no_grad():
        model[-1].weight.copy_(torch.eye(3, 64))  # else only the head learns
        for branch in model[1:-1]:
            branch.maps[0].weight *= factor
    before = model(X).detach()
    (model(X) - 1).square().mean().backward()
    with torch.no_grad():
        for branch in model[1:-1]:
            for one in branch.maps:
                one.weight -= 1e-3 * one.weight.grad
        return float((model(X) - before).norm())


def test_a_step_moves_the_output_as_much_whatever_the_number_of_branches():
    scaled = [moved(n, 1) for n in (1, 6)]
    unscaled = [moved(n, n**0.5) for n in (1, 6)]
    assert scaled[1] / scaled[0] == pytest.approx(1, abs=0.3)
    assert unscaled[1] / unscaled[0] == pytest.approx(6, rel=0.3)


def test_norms_and_nets_without_branches_are_refused():
    images = torch.randn(4, 1, 8, 8, generator=seeded())
    normed = nn.Sequential(nn.Conv2d(1, 8, 3), Residual(8))
    before = normed[1].conv1.weight.detach().clone()
    with pytest.raises(InputError, match=r"batch-norm behind 1\.conv"):
        initialise_(normed, images, scheme="fixup")
    assert torch.equal(before, normed[1].conv1.weight)
    sequence = torch.randn(4, 8, 8, generator=seeded())
    with pytest.raises(InputError, match=r"norm1|norm2"):
        initialise_(Encoder(norm_first=True), sequence, scheme="fixup")
    with pytest.raises(InputError, match="found none"):
        initialise_(nn.Sequential(nn.Linear(16, 4)), X, scheme="fixup")
    with pytest.raises(InputError, match="found none"):
        initialise_(net(2, 2), scheme="fixup")


def test_a_net_that_ends_in_a_sum_keeps_its_stem():
    model = net(2, 2)[:-1]
    initialise_(model, X, scheme="fixup")
    assert bool(model[0].weight.any())
    assert not model[2].maps[-1].weight.any()
