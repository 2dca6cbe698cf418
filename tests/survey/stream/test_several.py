import pytest
import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.survey.stream.several import Several, as_one, bare, roots, spread


def test_several_models_are_one_that_holds_them():
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    second.eval()
    one = as_one({"a.b": first, "c": second})
    assert isinstance(one, Several)
    assert roots(one) == {"a-b": first, "c": second}
    assert one.training
    one.training = False
    assert first.training
    assert not second.training
    assert [name for name, _ in as_one([first, second]).named_children()] == ["0", "1"]


def test_one_model_is_itself():
    net = nn.Linear(2, 2)
    assert as_one(net) is as_one([net]) is as_one({"net": net}) is net
    assert roots(net) == {"": net}
    assert bare(nn.DataParallel(net)) is net
    assert bare(torch.compile(net, backend="eager")) is net
    assert not spread(net)


@pytest.mark.parametrize("model", [3, [], {}, [3], {"net": nn.Linear}])
def test_what_is_no_model(model):
    with pytest.raises(InputError, match="or a dict or list of them"):
        as_one(model)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("among", [lambda m: m, lambda m: [nn.Linear(2, 2), m]])
def test_what_takes_no_hooks(among):
    script = torch.jit.script(nn.Linear(2, 2))
    with pytest.raises(InputError, match="takes no hooks"):
        as_one(among(script))


def test_a_name_that_torch_does_not_take():
    with pytest.raises(InputError, match="expected other names for the models"):
        as_one({"type": nn.Linear(2, 2), "other": nn.Linear(2, 2)})
