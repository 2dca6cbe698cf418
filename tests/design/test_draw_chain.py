import pytest
import torch
from torch import nn

from netting import mlp, seeded
from plumbob.design.draw_chain import draw_chain
from plumbob.errors import InputError
from plumbob.remedies import layout
from plumbob.survey.trace import module_sites


def drawn(model, sds, offsets, optimizer=None):
    sites = [layout(site) for site in module_sites(model)]
    draw_chain(model, optimizer, sites=sites, sds=sds, offsets=offsets)


def test_the_spread_of_z_is_kept_through_sigmoids():
    """1 / (fan_in E[phi'^2]) with sigmoid's slope and its 1/2 taken out."""
    model = mlp(64, *[64] * 6, activation=nn.Sigmoid)
    sds = (64**-0.5, *[64**-0.5 / 0.2112] * 5)
    drawn(model, sds, (0.0, *[0.5] * 5))
    with torch.no_grad():
        z = model(torch.randn(500, 64, generator=seeded()))
    assert 0.7 < float(z.var(0).mean().sqrt()) < 1.3
    assert float(z.mean(0).square().mean().sqrt()) < 0.2


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 64, 3, groups=2), nn.ConvTranspose2d(4, 64, 3, groups=2)]
)
def test_convolutions_are_drawn_too(layer):
    model = nn.Sequential(layer)
    drawn(model, (0.1,), (0.0,))
    assert float(layer.weight.detach().std()) == pytest.approx(0.1, rel=0.05)
    assert not layer.bias.any()


def test_the_same_call_draws_the_same_and_touches_no_generator():
    one, two = mlp(8, 8, 3), mlp(8, 8, 3)
    state = torch.get_rng_state()
    for model in (one, two):
        drawn(model, (0.1, 0.2), (0.0, 0.0))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one[0].weight, two[0].weight)
    assert not torch.equal(one[0].weight[:3] * 2, one[2].weight)


def test_momenta_begin_at_zero():
    model = mlp(4, 4, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    drawn(model, (0.1, 0.1), (0.0, 0.0), optimizer)
    assert not optimizer.state[model[0].weight]["exp_avg"].any()


@pytest.mark.parametrize(
    ("sds", "says"),
    [((0.1, float("nan")), "finite numbers"), ((0.1, 1e300), "float32 holds for 2")],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(sds, says):
    model = mlp(4, 8, 2)
    before = model[0].weight.detach().clone()
    with pytest.raises(InputError, match=says):
        drawn(model, sds, (0.0, 0.0))
    assert torch.equal(model[0].weight, before)
