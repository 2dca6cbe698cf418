import pytest
import torch
from torch import nn

from plumbob.design.split_groups import split_groups
from plumbob.errors import InputError


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def held(optimizer, model):
    names = {id(p): n for n, p in model.named_parameters()}
    return [([names[id(p)] for p in g["params"]], g["weight_decay"])
            for g in optimizer.param_groups]  # fmt: skip


def test_settings_and_state_stay_and_only_the_decay_goes():
    model = net()
    adam = torch.optim.AdamW(
        model.parameters(), lr=0.02, betas=(0.8, 0.9), weight_decay=0.3
    )
    model(torch.ones(2, 3)).sum().backward()
    adam.step()
    state = {id(p): {k: v.clone() for k, v in s.items()} for p, s in adam.state.items()}
    split_groups(model, adam, parameters=["0.bias", "1.weight"])
    assert held(adam, model) == [
        (["0.weight", "1.bias", "2.weight", "2.bias"], 0.3),
        (["0.bias", "1.weight"], 0.0),
    ]
    first, second = adam.param_groups
    same = first.keys() - {"params", "weight_decay"}
    assert {k: first[k] for k in same} == {k: second[k] for k in same}
    assert first["betas"] == (0.8, 0.9)
    for p, kept in adam.state.items():
        assert all(torch.equal(kept[k], state[id(p)][k]) for k in kept)
    before = model[0].bias.detach().clone()
    adam.zero_grad()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    adam.param_groups[1]["betas"] = (0.0, 0.9)  # no momentum: decay alone would move it
    adam.step()
    assert torch.equal(model[0].bias, before)


def test_a_group_of_named_ones_only_loses_its_decay_and_undecayed_ones_stay():
    model = net()
    sgd = torch.optim.SGD(
        [
            {"params": [model[0].bias, model[2].bias], "weight_decay": 0.1},
            {"params": [model[1].weight], "weight_decay": 0.0, "lr": 0.5},
            {"params": [model[0].weight, model[1].bias], "weight_decay": 0.2},
        ],
        lr=0.1,
    )
    names = ["0.bias", "2.bias", "1.weight", "1.bias"]
    split_groups(model, sgd, parameters=names)
    split_groups(model, sgd, parameters=names)  # nothing is left to do
    assert held(sgd, model) == [
        (["0.bias", "2.bias"], 0.0),
        (["1.weight"], 0.0),
        (["0.weight"], 0.2),
        (["1.bias"], 0.0),
    ]


def test_several_optimisers_and_groups_with_names():
    model = net()
    one = torch.optim.AdamW(model[0].named_parameters(), weight_decay=0.1)
    two = torch.optim.SGD(model[2].parameters(), lr=0.1, weight_decay=0.2)
    split_groups(model, [one, {"b": two}], parameters=["0.bias", "2.bias"])
    assert held(one, model) == [(["0.weight"], 0.1), (["0.bias"], 0.0)]
    assert [g["param_names"] for g in one.param_groups] == [["weight"], ["bias"]]
    assert held(two, model) == [(["2.weight"], 0.2), (["2.bias"], 0.0)]


@pytest.mark.parametrize(
    ("name", "says"),
    [("0.bais", "Did you mean '0.bias'"), ("2.bias", "in none of its groups")],
)
def test_what_cannot_be_split_changes_nothing(name, says):
    model = net()
    adam = torch.optim.AdamW(model[0].parameters(), weight_decay=0.1)
    with pytest.raises(InputError, match=says):
        split_groups(model, adam, parameters=["0.bias", name])
    assert held(adam, model) == [(["0.weight", "0.bias"], 0.1)]
