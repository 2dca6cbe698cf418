import pytest
import torch
from torch import nn

from nets import mlp, seeded
from plumbob.design.rescale_units import rescale_units
from plumbob.errors import InputError
from plumbob.remedies import layout
from plumbob.survey.trace import module_sites


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(5, 6), (9, 5)),
        (nn.Linear(5, 6, bias=False), (9, 5)),
        (nn.Conv2d(4, 6, 3, groups=2), (9, 4, 5, 5)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (9, 4, 5, 5)),
    ],
)
def test_z_is_as_many_times_as_large(layer, shape):
    model, x = nn.Sequential(layer), torch.randn(shape, generator=seeded())
    before = model(x)
    (site,) = module_sites(model)
    rescale_units(model, site=layout(site), units=(1, 4), factors=(0.25, -2.0))
    times = torch.tensor([1, 0.25, 1, 1, -2, 1]).view(-1, *[1] * (len(shape) - 2))
    torch.testing.assert_close(model(x), before * times)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"units": (0, 8)}, "units from 0 to 7 of 0 "),
        ({"units": (1, 1)}, "different units"),
        ({"factors": (1.0,)}, "1 numbers"),
        ({"factors": (1.0, 1e300)}, "values that torch.float32 holds for 0.weight"),
        ({"factors": (1.0, float("inf"))}, "finite factors for 0"),
        ({"site": {"weight": "0.weigth"}}, "Did you mean '0.weight'"),
        ({"site": {"fan_in": 5}}, "not laid out as W"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(changes, says):
    model = mlp(4, 8, 2)
    before = model[0].weight.detach().clone()
    site = layout(module_sites(model)[0]) | changes.pop("site", {})
    given = {"units": (0, 1), "factors": (2.0, 2.0)}
    with pytest.raises(InputError, match=says):
        rescale_units(model, site=site, **given | changes)
    assert torch.equal(model[0].weight, before)
