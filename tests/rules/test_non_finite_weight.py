import pytest
import torch
from safetensors.torch import save_file
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


def diverged(x, bias=0.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model[2].bias.data += bias
    descent = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(2):
        descent.zero_grad()
        model(x).square().mean().backward()
        descent.step()
    return plumbob.check(model, [(x, x[:, :2])], loss=nn.MSELoss())


def test_several_parameters_are_one_finding():
    model = mlp(4, 8, 2)
    for parameter in (model[0].weight, model[0].bias, model[2].bias):
        parameter.data[1] = NAN
    (found,) = plumbob.check(model, select="PB101").findings
    assert (found.site, found.units) == (None, ())
    assert found.message == (
        "3 of 4 parameters hold NaN or Inf, 0 of them nothing else: "
        "0.weight, 0.bias, 2.bias"
    )
    assert found.evidence["nans"] == 4 + 1 + 1
    assert found.evidence["count"] == 32 + 8 + 2


def test_a_diverged_net_is_one_root():
    x = torch.randn(64, 4, generator=seeded())
    (root,) = (f for f in diverged(x, bias=INF).findings if f.code == "PB101")
    assert root.evidence["parameters"] == root.evidence["of"] == 6
    assert root.cause.startswith("the loss or a gradient")
    below = {(f.code, f.site) for f in root.consequences}
    assert {"PB208", "PB403"} <= {code for code, _ in below}
    assert ("PB101", "1") in below  # its statistics


def test_the_data_stay_the_cause_when_all_is_broken():
    x = torch.randn(64, 4, generator=seeded())
    x[3, [1, 2]] = NAN
    (root,) = (f for f in diverged(x).findings if f.code == "PB101")
    assert root.site is None
    assert root.cause.startswith("the data: 2 values of the input are NaN")
    assert root.remedy.advice.startswith("Leave out or mend the samples")


def test_both_statistics_of_a_norm_are_one_finding():
    norm = nn.BatchNorm1d(3)
    norm.running_mean[1], norm.running_var[0] = NAN, INF
    model = nn.Sequential(nn.Linear(3, 3), norm)
    (found,) = plumbob.check(model, select="PB101").findings
    assert found.site == "1"
    assert found.message == (
        "1 NaN and 1 infinite among 6 values of its running_mean and running_var"
    )


def test_masks_of_a_checkpoint_are_no_divergence(tmp_path):
    state = {f"{i}.mask": torch.full((2, 2), -INF).triu(1) for i in range(2)}
    file = tmp_path / "w.safetensors"
    save_file(state, file)
    found = plumbob.check(file, select="PB101").findings
    assert [f.site for f in found] == ["0.mask", "1.mask"]
