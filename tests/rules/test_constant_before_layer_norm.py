import pytest
import torch
from torch import nn

import plumbob
from nets_redundancy import constant_before_layer_norm
from theorems import bert, normals, tokens


def found(model, *data):
    return plumbob.check(model, data, select="PB305").findings


def test_the_finding():
    case = constant_before_layer_norm(leans=True)
    (finding,) = plumbob.check(**case, select="PB305").findings
    bias = case["model"][0].bias
    assert finding.site == "0.bias"
    assert finding.evidence["directions"] == 1
    assert finding.evidence["elements"] == 16
    assert finding.evidence["common"] == pytest.approx(bias.double().mean().item())


@pytest.mark.parametrize(
    ("norm", "count"),
    [
        (nn.LayerNorm(8), 1),
        (nn.RMSNorm(8), 0),
        (nn.Sequential(nn.ReLU(), nn.LayerNorm(8)), 0),
    ],
    ids=["layer-norm", "rms-norm", "relu"],
)
def test_which_norms_subtract(norm, count):
    model = nn.Sequential(nn.Linear(4, 8), norm, nn.Tanh(), nn.Linear(8, 2))
    assert len(found(model, normals(6, 4))) == count


class Written(nn.Module):
    """Two writers of a residual stream; `seen`: it is also returned."""

    def __init__(self, *, seen):
        super().__init__()
        self.embed, self.branch = nn.Linear(4, 8), nn.Linear(8, 8)
        self.first, self.last = nn.LayerNorm(8), nn.LayerNorm(8)
        self.seen = seen

    def forward(self, x):
        x = self.embed(x)
        y = x + self.branch(self.first(x).tanh())
        return (self.last(y), y) if self.seen else self.last(y)


def test_a_residual_stream_that_only_layer_norms_read():
    both = {f.site for f in found(Written(seen=False), normals(6, 4))}
    assert both == {"embed.bias", "branch.bias"}
    assert not found(Written(seen=True), normals(6, 4))


def test_bert_writes_four_of_two_layers():
    """Of biases; tables and the columns of weights have such a direction too."""
    names = {f.site for f in found(bert(), tokens()) if f.site.endswith("bias")}
    assert names == {
        f"encoder.layer.{i}.{part}.dense.bias"
        for i in range(2)
        for part in ("attention.output", "output")
    }


def test_a_norm_over_an_image_loses_one_direction():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.LayerNorm((4, 5, 5)))
    (finding,) = found(model, torch.randn(3, 2, 7, 7))
    assert finding.evidence["directions"] == 1


def test_a_norm_over_the_positions_loses_the_whole_bias():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.LayerNorm((5, 5)))
    x = torch.randn(3, 2, 7, 7)
    (finding,) = found(model, x)
    assert finding.evidence["directions"] == finding.evidence["elements"] == 4
    assert finding.message.endswith("each is the same for all units of the norm")
    assert finding.remedy.advice.startswith("Build this layer with bias=False (plumbob")
    fixed, _ = plumbob.fix(model, x, select="PB305")
    assert fixed[0].bias is None
