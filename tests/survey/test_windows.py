import pytest
import torch

from netting import seeded
from plumbob.survey.windows import overlap


def series(channels=1):
    return torch.randn(channels, 400, generator=seeded())


@pytest.mark.parametrize("stride", [1, 5, 24])
@pytest.mark.parametrize("channels", [1, 3])
def test_windows_of_one_series_in_any_order_and_along_any_axis(stride, channels):
    cut = series(channels).unfold(1, 48, stride).movedim(1, 0)
    cut = cut[torch.randperm(len(cut), generator=seeded())]
    assert overlap(cut)
    assert overlap(cut.movedim(1, 2))
    assert overlap(cut.movedim(1, 2).flatten(1))


def test_what_shares_less_than_half_or_agrees_by_chance_is_no_window():
    assert not overlap(series().unfold(1, 40, 21)[0])
    assert not overlap(torch.randn(256, 12, generator=seeded()))
    assert not overlap((torch.rand(256, 8, generator=seeded()) > 0.5).float())
    assert not overlap(torch.zeros(64, 3, 8, 8))
    assert not overlap(torch.ones(64, 1))
    drawn = torch.zeros(64, 1, 16, 16)
    drawn[:, :, 4:12, 4:12] = torch.rand(64, 1, 8, 8, generator=seeded())
    assert not overlap(drawn)
