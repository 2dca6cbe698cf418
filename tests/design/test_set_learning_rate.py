import pytest
import torch
from torch import nn

from plumbob.design.set_learning_rate import set_learning_rate
from plumbob.errors import InputError


def made():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    groups = [{"params": net[0].parameters()}, {"params": net[1].parameters()}]
    return net, torch.optim.SGD(groups, lr=1.0)


def test_the_named_group_alone_is_set():
    net, sgd = made()
    torch.optim.lr_scheduler.LambdaLR(sgd, lambda step: 0.5)
    set_learning_rate(net, sgd, parameters=["1.bias"], rates=[0.05])
    assert [g["lr"] for g in sgd.param_groups] == [0.5, 0.05]
    assert [g["initial_lr"] for g in sgd.param_groups] == [1.0, 0.1]


def test_a_rate_that_is_a_tensor_stays_one():
    net, _ = made()
    rate = torch.tensor(1.0)
    adam = torch.optim.Adam(net.parameters(), lr=rate)
    set_learning_rate(net, adam, parameters=["0.weight"], rates=[0.25])
    assert adam.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("names", "rates", "told"),
    [
        (["0.wieght"], [0.1], "Did you mean '0.weight'?"),
        (["0.weight"], [0.0], "above 0"),
        (["0.weight"], [], "one learning rate"),
        (["1.bias"], [0.1], "in none of its groups"),
    ],
)
def test_what_does_not_fit_is_refused(names, rates, told):
    net, _ = made()
    sgd = torch.optim.SGD(net[0].parameters(), lr=1.0)
    with pytest.raises(InputError) as error:
        set_learning_rate(net, sgd, parameters=names, rates=rates)
    assert told in str(error.value)
    assert sgd.param_groups[0]["lr"] == 1
