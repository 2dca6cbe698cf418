import pytest
import torch
from torch import nn

from plumbob.design.add_parameters import add_parameters
from plumbob.errors import InputError


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def test_they_get_the_settings_of_the_first_group_and_move():
    model = net()
    adam = torch.optim.AdamW([
        {"params": [model[0].weight], "lr": 0.3, "weight_decay": 0.1},
        {"params": [model[0].bias], "lr": 0.7, "weight_decay": 0.0},
    ])
    before = model[1].weight.detach().clone()
    add_parameters(model, adam, parameters=["1.weight", "1.bias"], undecayed=["1.bias"])
    assert [(g["lr"], g["weight_decay"]) for g in adam.param_groups[2:]] == [
        (0.3, 0.1),
        (0.3, 0.0),
    ]
    assert adam.param_groups[3]["params"] == [model[1].bias]
    model(torch.ones(1, 3)).sum().backward()
    adam.step()
    assert not torch.equal(model[1].weight, before)


def test_groups_with_names_keep_them():
    model = net()
    adam = torch.optim.AdamW(model[0].named_parameters())
    add_parameters(model, adam, parameters=["1.weight"])
    assert adam.param_groups[1]["param_names"] == ["1.weight"]


def test_a_tied_pair_is_added_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[2].weight = model[1].weight
    adam = torch.optim.AdamW(model[0].parameters())
    add_parameters(model, adam, parameters=["1.weight", "2.weight"])
    assert adam.param_groups[1]["params"] == [model[1].weight]


def test_of_several_optimisers_the_one_for_such_parameters_takes_each():
    model = net()
    muon = torch.optim.Muon([model[0].weight], lr=0.3)
    adam = torch.optim.AdamW([model[0].bias], lr=0.01)
    names = ["1.weight", "1.bias"]
    add_parameters(model, [muon, adam], parameters=names, undecayed=["1.bias"])
    assert [g["params"] for g in muon.param_groups[1:]] == [[model[1].weight]]
    assert [g["params"] for g in adam.param_groups[1:]] == [[model[1].bias]]
    assert (muon.param_groups[1]["lr"], adam.param_groups[1]["lr"]) == (0.3, 0.01)
    assert adam.param_groups[1]["weight_decay"] == 0


@pytest.mark.parametrize(("held", "count"), [("0.weight", 0), ("0.bias", 2)])
def test_where_none_or_both_of_two_optimisers_could_take_it_nothing_changes(
    held, count
):
    model = net()
    other = nn.Parameter(torch.zeros_like(model.get_parameter(held)))
    two = [torch.optim.SGD([p]) for p in (model.get_parameter(held), other)]
    with pytest.raises(InputError, match=f"1 axes, like 1.bias .*got {count} that do"):
        add_parameters(model, two, parameters=["1.bias"])
    assert [len(one.param_groups) for one in two] == [1, 1]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"parameters": ["1.wieght"]}, "Did you mean '1.weight'"),
        ({"parameters": ["1.bias", "0.bias"]}, "in one of its groups already"),
        ({"parameters": ["1.bias"], "undecayed": ["1.weight"]}, "name it in both"),
    ],
)
def test_what_cannot_be_added_changes_nothing(given, says):
    model = net()
    adam = torch.optim.AdamW(model[0].parameters())
    with pytest.raises(InputError, match=says):
        add_parameters(model, adam, **given)
    assert len(adam.param_groups) == 1
