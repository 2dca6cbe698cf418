import pytest
import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.optimizer import optimizer_facts
from plumbob.types import Group


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def step(model, optimizer):
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()


def test_groups_carry_the_models_names_and_their_own_rates():
    model = net()
    sgd = torch.optim.SGD(
        [
            {"params": [model[0].weight], "weight_decay": 0.1},
            {"params": [model[0].bias], "lr": torch.tensor(0.5)},
        ],
        lr=0.25,
    )
    facts = optimizer_facts(sgd, model)
    assert facts.name == "SGD"
    assert facts.groups == (
        Group(parameters=("0.weight",), lr=0.25, weight_decay=0.1),
        Group(parameters=("0.bias",), lr=0.5),
    )


@pytest.mark.parametrize(
    ("make", "decoupled"),
    [
        (torch.optim.AdamW, True),
        (torch.optim.Adam, False),
        (lambda p: torch.optim.NAdam(p, decoupled_weight_decay=True), True),
        (torch.optim.SGD, False),
    ],
)
def test_whether_decay_is_decoupled(make, decoupled):
    model = net()
    groups = optimizer_facts(make(model.parameters()), model).groups
    assert [g.decoupled for g in groups] == [decoupled]


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (torch.optim.AdamW, 3),
        (lambda p: torch.optim.SGD(p, momentum=0.9), 1),  # one at least
        (torch.optim.SGD, 0),  # keeps no state
    ],
)
def test_steps_as_far_as_the_state_tells(make, steps):
    model = net()
    optimizer = make(model.parameters())
    assert optimizer_facts(optimizer, model).steps == 0
    for _ in range(3):
        step(model, optimizer)
    assert optimizer_facts(optimizer, model).steps == steps


def test_several_are_merged_and_strangers_are_marked():
    model, other = net(), nn.Linear(1, 1)
    both = {
        "w": torch.optim.SGD([model[0].weight, other.weight]),
        "b": [torch.optim.AdamW([model[0].bias])],
    }
    facts = optimizer_facts(both, model)
    assert facts.name == "SGD + AdamW"
    assert [g.parameters for g in facts.groups] == [("0.weight", "?"), ("0.bias",)]


def test_a_tied_parameter_has_its_first_name():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    sgd = torch.optim.SGD([model[1].weight])
    assert optimizer_facts(sgd, model).groups[0].parameters == ("0.weight",)


def test_what_is_no_optimiser():
    with pytest.raises(InputError, match="got Linear"):
        optimizer_facts(nn.Linear(1, 1), net())
