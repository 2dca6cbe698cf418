from copy import deepcopy

import pytest
import torch
from torch import nn

from plumbob.design.set_activation import set_activation
from plumbob.errors import InputError


def names(model):
    return [(name, type(m).__name__) for name, m in model.named_modules() if name]


def test_an_activation_takes_the_place_of_another():
    model = nn.Sequential(nn.Linear(3, 1), nn.Softmax(-1)).eval()
    set_activation(model, module="1", activation="sigmoid")
    x = torch.randn(4, 3)
    assert torch.equal(model(x), model[0](x).sigmoid())
    assert not model[1].training


def test_an_attribute_is_replaced_in_a_model_of_its_own_class():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 2))
            self.act = nn.Tanh()

        def forward(self, x):
            return self.act(self.body(x))

    model = Net()
    set_activation(model, module="act", activation="identity")
    x = torch.randn(4, 3)
    assert torch.equal(model(x), model.body(x))


def test_one_that_follows_renames_no_parameter_and_does_so_once():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2))
    before = deepcopy(model)
    for _ in range(2):
        set_activation(model, module="0", activation="relu")
        set_activation(model, module="2", activation="softmax")
    assert list(model.state_dict()) == list(before.state_dict())
    kinds = ["Linear", "ReLU", "Linear", "Linear", "Softmax"]
    assert [kind for _, kind in names(model)] == kinds
    x = torch.randn(5, 3)
    wanted = before[2](before[1](before[0](x).relu())).softmax(-1)
    assert torch.equal(model(x), wanted)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = self.second = nn.ReLU()
        self.fc = nn.Linear(2, 2)
        self.seen = nn.ReLU()
        self.seen.register_forward_hook(lambda *given: None)


@pytest.mark.parametrize(
    ("module", "activation", "says"),
    [
        ("first", "tanh", "which is also second"),
        ("fc", "tanh", "own forward says what follows"),
        ("seen", "tanh", "whose hooks would be lost"),
        ("frist", "tanh", "Did you mean 'first'"),
        ("", "tanh", "expected the path"),
        ("first", "tan", "Did you mean 'tanh'"),
    ],
)
def test_what_cannot_be_set_is_refused_and_left(module, activation, says):
    model = Shared()
    before = names(model)
    with pytest.raises(InputError, match=says):
        set_activation(model, module=module, activation=activation)
    assert names(model) == before
