import pytest
import torch
from torch import nn

import plumbob
from nets_redundancy import bias_before_instance_norm, normed
from netting import codes
from plumbob.types import Safety, Severity


def test_the_finding():
    report = plumbob.check(**bias_before_instance_norm(leans=True), select="PB302")
    (finding,) = report.findings
    assert (finding.site, finding.units) == ("0.bias", (0, 1, 2, 3))
    assert finding.severity is Severity.INFO
    assert finding.evidence["elements"] == 4
    assert finding.evidence["error"] < 1e-12
    assert (finding.remedy.act, finding.remedy.safety) == (
        "drop-null-bias",
        Safety.EXACT,
    )
    assert finding.steps[0].startswith("in training null, nothing sees it; in inf")


def test_running_statistics_keep_it_in_inference():
    """There the running mean could carry it: dropping it changes the function."""
    norm = nn.InstanceNorm2d(4, track_running_stats=True)
    norm.running_mean = torch.randn(4)
    case = normed(nn.Conv2d(2, 4, 3), norm)
    report = plumbob.check(**case, select="PB302")
    assert all(f.remedy.act is None for f in report.findings)


class Between(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4)
        self.between = between

    def forward(self, x):
        return self.norm(self.between(self.conv(x)))


@pytest.mark.parametrize(
    ("between", "leans"),
    [
        (nn.Identity(), True),
        (nn.AvgPool2d(2), True),
        (nn.ReLU(), False),
        (nn.ZeroPad2d(1), False),
        (nn.Conv2d(4, 4, 3, padding=1), False),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), True),
    ],
    ids=["nothing", "pool", "relu", "zeros", "zero-padded", "circular"],
)
def test_what_lies_between(between, leans):
    case = {"model": Between(between), "data": torch.randn(4, 2, 7, 7)}
    report = plumbob.check(**case, select="PB302")
    assert ("conv.bias" in {f.site for f in report.findings}) is leans


def test_a_layer_norm_over_space_is_one():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.LayerNorm((4, 5, 5)), nn.Flatten())
    assert not codes({"model": model, "data": torch.randn(4, 2, 7, 7)}, select="PB302")
