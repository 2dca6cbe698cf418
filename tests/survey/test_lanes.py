"""Where units lie further on."""

import pytest
import torch
from torch import nn

from tracing import feeds, traced


class Rolled(nn.Module):
    def __init__(self, dims):
        super().__init__()
        self.dims, self.first, self.last = dims, nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(torch.roll(self.first(x).relu(), 1, self.dims))


@pytest.mark.parametrize(("dims", "repeat"), [(None, None), (1, None), (0, 1)])
def test_a_roll_keeps_the_axes_it_leaves_alone(dims, repeat):
    """Without axes it moves all values as one row, and units with them."""
    _, found = traced(Rolled(dims), torch.randn(5, 3))
    assert feeds(found["first"]) == {"last": repeat}
