"""What a loss holds is as it was after a check: values, gradients, mode, counters."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

import plumbob
from nets import mlp, seeded
from plumbob.survey.loss_guard import loss_untouched

X = torch.randn(64, 8, generator=seeded())
Y = torch.randint(0, 3, (64,), generator=seeded())
GLOBAL = nn.Linear(3, 3)


class Angles(nn.Module):
    """A loss that learns: weights, a running mean, a counter, a cache, a mode."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, generator=seeded()))
        self.register_buffer("mean", torch.zeros(3))
        self.calls, self.past = 0, []

    def forward(self, outputs, targets):
        self.calls += 1
        self.past.append(self.calls)
        self.mean.mul_(0.9).add_(outputs.detach().mean(0).to(self.mean) * 0.1)
        self.eval()
        scores = outputs @ self.weight.to(outputs)
        return functional.cross_entropy(scores, targets)


class Loop:
    """A training loop whose method is the loss."""

    def __init__(self, critic):
        self.critics, self.calls = {"one": critic}, 0

    def loss(self, outputs, targets):
        self.calls += 1
        return self.critics["one"](outputs, targets)

    def __call__(self, outputs, targets):
        return self.loss(outputs, targets)


def closure(critic):
    def inner(o, t):
        return critic(o, t)

    return lambda o, t: inner(o, t)


def default(critic):
    def loss(o, t, critic=critic):
        return critic(o, t)

    return loss


def with_mode(critic, outputs, targets):
    return critic(outputs, targets)


HELD = {
    "module": lambda critic: critic,
    "closure": closure,
    "default": default,
    "partial": lambda critic: partial(with_mode, critic),
    "method": lambda critic: Loop(critic).loss,
    "method of a module": lambda critic: critic.forward,
    "object": Loop,
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_a_loss_is_as_it_was(held):
    torch.manual_seed(0)
    critic = Angles()
    model = nn.Sequential(mlp(8, 16, 16), nn.Tanh(), mlp(16, 16, 3))
    with torch.no_grad():
        model[2][0].weight.mul_(1e-4)  # its gradients shrink: steps are taken on a copy
    both = [*model.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(both, 1e-3)
    critic(model(X), Y).backward()
    optimizer.step()
    optimizer.zero_grad()
    critic.weight.grad = gradient = torch.full((3, 3), 2.0)
    critic.train()
    landed = []
    critic.weight.register_post_accumulate_grad_hook(landed.append)
    calls, past = critic.calls, list(critic.past)
    state = {n: t.clone() for n, t in critic.state_dict().items()}
    steps = [{k: v.clone() for k, v in s.items()} for s in optimizer.state.values()]
    loss = held(critic)
    report = plumbob.check(model, [(X, Y)], loss=loss, optimizer=optimizer)
    assert not report.crashed
    assert report.survey.signals.steps
    assert not landed
    assert critic.weight.grad is gradient
    assert bool((gradient == 2).all())
    assert all(torch.equal(t, state[n]) for n, t in critic.state_dict().items())
    assert (critic.calls, critic.past, critic.training) == (calls, past, True)
    assert getattr(getattr(loss, "__self__", loss), "calls", calls) in {0, calls}
    for kept, before in zip(optimizer.state.values(), steps, strict=True):
        assert all(torch.equal(kept[k], v) for k, v in before.items())


def test_a_global_and_a_tensor_are_seen():
    center = torch.zeros(3)

    def loss(outputs, targets):
        center.add_(1)
        return functional.cross_entropy(GLOBAL(outputs.float()), targets)

    before = GLOBAL.weight.detach().clone()
    with loss_untouched(loss, None):
        loss(X[:, :3], Y).backward()
        with torch.no_grad():
            GLOBAL.weight.add_(1)
    assert GLOBAL.weight.grad is None
    assert torch.equal(GLOBAL.weight, before)
    assert not center.any()


def test_the_model_itself_is_not_the_loss_s():
    model = mlp(8, 3)
    before = model[0].weight.detach().clone()
    with loss_untouched(lambda o, t: model(o).mean() + t, model), torch.no_grad():
        model[0].weight.add_(1)
    assert not torch.equal(model[0].weight, before)


def test_it_is_put_back_where_the_loss_fails():
    critic = Angles()

    def loss(outputs, targets):
        critic(outputs, targets)
        raise ValueError("no")

    with pytest.raises(plumbob.InputError, match="no"):
        plumbob.check(mlp(8, 3), [(X, Y)], loss=loss)
    assert (critic.calls, critic.past) == (0, [])
    assert not critic.mean.any()
