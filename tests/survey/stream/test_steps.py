import pytest
import torch
from torch import nn

from plumbob.survey.stream.steps import with_closure


@pytest.mark.parametrize("by_name", [False, True])
def test_a_closure_is_followed_by_one_look_and_is_not_kept(by_name):
    net, order = nn.Linear(2, 1), []
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=3)

    def closure():
        order.append("closure")
        optimizer.zero_grad()
        loss = net(torch.ones(1, 2)).square().sum()
        loss.backward()
        return loss

    def hook(one, args, kwargs):
        return with_closure(args, kwargs, lambda: order.append("look"))

    handle = optimizer.register_step_pre_hook(hook)
    loss = optimizer.step(closure=closure) if by_name else optimizer.step(closure)
    assert loss.ndim == 0
    assert order[:3] == ["closure", "look", "closure"]
    assert order.count("look") == 1
    handle.remove()
    optimizer.step(closure)
    assert order.count("look") == 1


@pytest.mark.parametrize(
    "given", [((None,), {}), ((None, None), {}), ((None,), {"closure": None})]
)
def test_a_step_without_a_closure_is_left_alone(given):
    assert with_closure(*given, pytest.fail) is None
