import math

import pytest
import torch

from plumbob import design
from plumbob.errors import InputError


def test_temporal_difference_starts_with_mean_0():
    r = torch.rand(50)
    b = design.value_bias(r, 0.99)
    assert (r.double() + 0.99 * b - b).mean().abs() < 1e-12


def test_optimism_takes_the_largest_reward():
    assert design.value_bias([0.0, 2.0], 0.5, optimistic=True) == 4


@pytest.mark.parametrize(("r", "gamma"), [([], 0.5), ([1.0], 1.0), ([math.nan], 0.5)])
def test_what_has_no_value_is_refused(r, gamma):
    with pytest.raises(InputError, match="expected"):
        design.value_bias(r, gamma)
