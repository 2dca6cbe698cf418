import pytest
import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.mending.migrate import migrate
from plumbob.verbs.all_or_nothing import copied


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))


def stepped(model):
    groups = [
        {"params": list(layer.named_parameters(prefix=name)), "lr": 0.1}
        for name, layer in model.named_children()
    ]
    optimizer = torch.optim.AdamW(groups)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return optimizer


def names(optimizer):
    return [group["param_names"] for group in optimizer.param_groups]


def test_what_is_gone_takes_its_state_with_it():
    model = net()
    optimizer = stepped(model)
    before = dict(model.named_parameters())
    model[0].bias = None
    migrate(optimizer, before, model)
    assert names(optimizer) == [["0.weight"], ["1.weight"]]
    assert set(optimizer.state) == set(model.parameters())


def test_what_takes_a_place_takes_over_group_and_state():
    model = net()
    optimizer = stepped(model)
    before = dict(model.named_parameters())
    moments = optimizer.state[model[0].weight]
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())
    model[0].bias = nn.Parameter(torch.zeros(1))  # of another size: begins anew
    migrate(optimizer, before, model)
    assert names(optimizer) == [["0.weight", "0.bias"], ["1.weight"]]
    held = optimizer.param_groups[0]["params"]
    assert list(map(id, held)) == list(map(id, model[0].parameters()))
    assert optimizer.state[model[0].weight] is moments
    assert set(optimizer.state) == {model[0].weight, model[1].weight}


def test_what_is_new_joins_the_group_of_its_neighbour():
    model = net()
    optimizer = stepped(model)
    before = dict(model.named_parameters())
    model[1].bias = nn.Parameter(torch.zeros(2))
    migrate(optimizer, before, model)
    assert names(optimizer) == [["0.weight", "0.bias"], ["1.weight", "1.bias"]]
    assert optimizer.param_groups[1]["params"][1] is model[1].bias


def test_several_optimisers_and_strangers_parameters_are_left_alone():
    model, other = net(), nn.Parameter(torch.ones(1))
    one = torch.optim.SGD([model[0].weight, other], lr=0.1)
    two = torch.optim.SGD([model[0].bias, model[1].weight], lr=0.1)
    before = dict(model.named_parameters())
    model[0].bias = None
    migrate([one, two], before, model)
    held = [id(p) for one in (one, two) for p in one.param_groups[0]["params"]]
    assert held == [id(model[0].weight), id(other), id(model[1].weight)]


def test_one_state_for_all_parameters_stays_with_these():
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters())
    before = dict(model.named_parameters())
    migrate(optimizer, before, model)
    model[0].bias = None
    with pytest.raises(InputError, match="got LBFGS, which has one of all"):
        migrate(optimizer, before, model)
    assert len(optimizer.param_groups[0]["params"]) == 3


class Ahead(torch.optim.SGD):
    """Has an attribute of its own, which torch leaves out of copies."""

    def __init__(self, params):
        super().__init__(params, 0.1)
        self.slow = [p.detach().clone() for p in self.param_groups[0]["params"]]
        self.first = self.param_groups[0]["params"][0]


def test_a_copy_of_an_optimiser_has_what_its_class_adds():
    model = net()
    optimizer = Ahead(model.parameters())
    torch.optim.lr_scheduler.StepLR(optimizer, 1)  # puts its own step in place
    new_model, new = copied(model, optimizer, "")
    assert new.first is new_model[0].weight
    assert torch.equal(new.slow[0], optimizer.slow[0])
    assert new.slow[0] is not optimizer.slow[0]
    new_model(torch.ones(2, 3)).sum().backward()
    old = model[0].weight.clone()
    new.step()
    assert torch.equal(old, model[0].weight)
    assert not torch.equal(old, new_model[0].weight)
