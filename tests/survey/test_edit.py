"""Edits a block at a time are those of the whole tensor."""

import pytest
import torch
from torch import Tensor

from plumbob.survey.edit import Edit, common_part


def blocks(tensor: Tensor, step: int):
    return [(i, tensor[i : i + step]) for i in range(0, len(tensor), step)]


@pytest.mark.parametrize("step", [1, 2, 5, 12])
@pytest.mark.parametrize("rows", [(0, 12), (3, 9)])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("shape", [(12,), (12, 5)])
def test_groups_of_rows_lose_their_mean(step, rows, groups, shape):
    torch.manual_seed(0)
    tensor = torch.randn(shape, dtype=torch.float64) + 3
    mean = common_part(blocks(tensor, step), rows, groups, 0, 1e-7)
    assert mean is not None
    edit = Edit("w", rows, -mean)
    done = torch.cat([edit.on(part, first) for first, part in blocks(tensor, step)])
    own = tensor[slice(*rows)].unflatten(0, (groups, -1))
    expected = tensor.clone()
    expected[slice(*rows)] = (own - own.mean(1, keepdim=True)).flatten(0, 1)
    torch.testing.assert_close(done, expected, rtol=0, atol=1e-14)
    assert common_part(blocks(done, step), rows, groups, 0, 1e-7) is None


@pytest.mark.parametrize("step", [1, 3, 4])
@pytest.mark.parametrize("groups", [1, 2])
def test_columns_lose_their_mean(step, groups):
    torch.manual_seed(0)
    tensor = torch.randn(4, 6, 2, dtype=torch.float64)
    mean = common_part(blocks(tensor, step), (0, 6), groups, 1, 1e-7)
    assert mean is not None
    edit = Edit("w", (0, 6), -mean, axis=1)
    done = torch.cat([edit.on(part, first) for first, part in blocks(tensor, step)])
    own = tensor.unflatten(1, (groups, -1))
    expected = (own - own.mean(2, keepdim=True)).flatten(1, 2)
    torch.testing.assert_close(done, expected, rtol=0, atol=1e-14)


def test_rows_become_0_and_the_given_stays():
    tensor = torch.ones(5, dtype=torch.float64)
    edit = Edit("b", (1, 3))
    assert edit.on(tensor).tolist() == [1, 0, 0, 1, 1]
    assert edit.on(tensor[2:], 2).tolist() == [0, 1, 1]
    assert edit.on(tensor[3:], 3).tolist() == [1, 1]
    assert tensor.tolist() == [1] * 5


def test_one_number_for_all():
    edit = Edit("b", (0, 4), torch.tensor([2.0], dtype=torch.float64))
    assert edit.on(torch.zeros(2, dtype=torch.float64), 2).tolist() == [2, 2]
