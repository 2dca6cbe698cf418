import pytest
import torch
from torch import nn

import plumbob
from nets import mlp, seeded

NAN, INF = float("nan"), float("inf")


def broken(index, value=NAN, name="weight"):
    model = mlp(4, 8, 2)
    getattr(model[0], name).data[index] = value
    (found,) = plumbob.check(model, select="PB101").findings
    assert found.site == f"0.{name}"
    return found


@pytest.mark.parametrize(
    ("index", "units", "cause"),
    [
        (slice(None), (), "all of its values"),
        ([1, 5], (1, 5), "whole rows: the gradient of z was NaN in a step, for 2 of"),
        ((slice(None), 2), tuple(range(8)), "whole columns: 1 of its inputs was NaN"),
        ((1, 2), (1,), "single values, in 1 row and 1 column:"),
        ((range(8), [0, 1, 2, 3] * 2), tuple(range(8)), "some values of every row"),
    ],
)
def test_the_pattern_tells_the_cause(index, units, cause):
    found = broken(index)
    assert found.units == units
    assert found.cause.startswith(cause)


def test_a_bias():
    found = broken(3, name="bias")
    assert found.units == (3,)
    assert found.cause.startswith("this unit only")
    assert broken(slice(None), name="bias").cause.startswith("all of its values")


def test_only_what_there_is_is_counted():
    assert broken((1, 2)).message == "1 NaN among 32 values"
    assert broken((1, 2), INF).message == "1 infinite among 32 values"
    both = broken(([1, 1], [0, 2]), torch.tensor([NAN, -INF]))
    assert both.message == "1 NaN and 1 infinite among 32 values"


def test_an_entry_of_a_table():
    table = nn.Embedding(5, 3)
    table.weight.data[2] = NAN
    (found,) = plumbob.check(nn.Sequential(table), select="PB101").findings
    assert found.cause.startswith("whole columns: 1 of its inputs")


def test_slices_of_a_packed_parameter_are_its_own_rows():
    attention = nn.MultiheadAttention(4, 1, batch_first=True)
    attention.in_proj_weight.data[9] = NAN

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x)[0]

    x = torch.randn(8, 3, 4, generator=seeded())
    (found,) = plumbob.check(Model(), x, select="PB101").findings
    assert found.units == (9,)
    assert found.cause.startswith("whole rows")


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
def test_statistics_of_a_norm(statistic):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()
    getattr(model[1], statistic)[1] = NAN
    x = torch.randn(64, 4, generator=seeded())
    (found,) = plumbob.check(model, x, select=("PB101", "PB403")).findings
    assert (found.code, found.site) == ("PB101", "1")
    assert found.message == f"1 NaN among 3 values of its {statistic}"
    assert [f.code for f in found.consequences] == ["PB403"]
