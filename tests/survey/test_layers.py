"""Layers read and write what the model computes with."""

import pytest
import torch
from torch import nn

from plumbob.survey.graph import export
from plumbob.survey.layers import layers
from plumbob.survey.trace import module_sites, sites


def layer_of(model, name):
    found, _ = layers(model, module_sites(model))
    return found[name]


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Linear(6, 4), torch.randn(3, 6)),
        (nn.Conv2d(4, 6, 3, groups=2), torch.randn(3, 4, 5, 5)),
        (nn.ConvTranspose2d(4, 6, 3), torch.randn(3, 4, 5, 5)),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), torch.randn(3, 4, 5)),
    ],
    ids=["linear", "conv", "conv-transpose", "grouped-transpose"],
)
def test_scaling_the_rows_scales_the_units(model, x):
    holder = nn.Sequential(model)
    layer = layer_of(holder, "0")
    before = holder(x).detach()
    scale = torch.arange(1.0, layer.site.out + 1)
    layer.write(layer.matrix() * scale[:, None])
    layer.shift(layer.vector() * scale)
    shape = (1, -1, *[1] * (x.ndim - 2))
    torch.testing.assert_close(holder(x), before * scale.reshape(shape))


def test_a_slice_of_a_packed_weight_is_written_alone():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    model = Net()
    graph = export(model, (torch.randn(2, 3, 8),), {}, training=True)
    found, _ = layers(model, sites(model, graph))
    packed = [one for name, one in found.items() if "in_proj" in name]
    assert [one.site.out for one in packed] != []
    before = attention.in_proj_weight.detach().clone()
    one = packed[-1]
    low, high = one.site.rows or (0, len(before))
    one.write(torch.zeros_like(one.matrix()))
    assert not attention.in_proj_weight[low:high].any()
    kept = torch.ones(len(before), dtype=torch.bool)
    kept[low:high] = False
    assert torch.equal(attention.in_proj_weight[kept], before[kept])


def test_what_cannot_be_written_is_said():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    found, unseen = layers(model, module_sites(model))
    assert not found
    meta = nn.Sequential(nn.Linear(3, 2, device="meta"))
    found, unseen = layers(meta, module_sites(meta))
    assert not found
    assert "meta" in unseen["0"]


def test_a_map_without_bias_refuses_to_write_one():
    layer = layer_of(nn.Sequential(nn.Linear(3, 2, bias=False)), "0")
    assert layer.vector() is None
    with pytest.raises(ValueError, match="no bias"):
        layer.shift(torch.zeros(2))


def test_a_copy_of_the_matrix_stays_when_the_weight_changes():
    model = nn.Linear(3, 2)
    (layer,) = layers(model, module_sites(model))[0].values()
    before = layer.matrix()
    layer.live().sum().backward()
    assert model.weight.grad.tolist() == [[1, 1, 1], [1, 1, 1]]
    model.weight.data.zero_()
    assert bool(before.all())
