import pytest
import torch
from torch import nn

import plumbob


def found(norm, between=None):
    model = nn.Sequential(nn.Conv2d(2, 6, 3), between or nn.Identity(), norm)
    data = torch.randn(4, 2, 7, 7)
    return plumbob.check(model, data, select="PB307").findings


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_one_direction_for_each_group(groups):
    (finding,) = found(nn.GroupNorm(groups, 6))
    assert finding.site == "0.bias"
    assert finding.evidence["directions"] == groups
    assert finding.evidence["elements"] == 6
    assert (finding.remedy.act == "drop-null-bias") is (groups == 6)


def test_not_through_what_bends():
    assert not found(nn.GroupNorm(2, 6), nn.ReLU())
