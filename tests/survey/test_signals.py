"""dL/dz along chains, against autograd's own; and the copies that are trained."""

import copy

import pytest
import torch
from torch import nn

from netting import mlp, seeded
from plumbob.survey.copies import copies, step
from plumbob.survey.measure import measure

Y = torch.arange(32) % 3
LOSS = nn.CrossEntropyLoss()


def images():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def surveyed(model, x, **more):
    return measure(model, x, targets=Y, loss=LOSS, **more)


def oracle(model, x):
    """Return the norms of dL/dz by hand, with no operation in place."""
    nets, h = {}, x
    for name, layer in model.named_children():
        h = torch.relu(h) if isinstance(layer, nn.ReLU) else layer(h)
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nets[name] = h
    found = torch.autograd.grad(LOSS(h, Y), list(nets.values()))
    return dict(zip(nets, (float(g.norm()) for g in found), strict=True))


@pytest.mark.parametrize(
    ("model", "shape"), [(mlp(8, 6, 6, 3), (32, 8)), (images(), (32, 1, 8, 8))]
)
def test_gradients_are_those_of_autograd(model, shape):
    x = torch.randn(shape, generator=seeded())
    found = surveyed(model, x).signals
    assert found.gradients == pytest.approx(oracle(model, x), rel=1e-5)
    assert not found.later


def test_places_are_the_positions_that_a_map_meets():
    x = torch.randn(32, 1, 8, 8, generator=seeded())
    assert surveyed(images(), x).signals.places == {"0": 36, "2": 16, "6": 1}


def test_short_chains_cost_nothing():
    x = torch.randn(32, 8, generator=seeded())
    model, calls = mlp(8, 6, 3), []
    before = surveyed(model, x)
    model.register_forward_hook(lambda *_: calls.append(1))
    assert surveyed(model, x).signals == before.signals
    short = len(calls)
    assert not before.signals.gradients
    model, calls = mlp(8, 6, 6, 3), []
    model.register_forward_hook(lambda *_: calls.append(1))
    surveyed(model, x)
    assert len(calls) == short + 1


def test_what_is_zero_is_looked_at_again_on_a_copy_that_leaves_no_trace():
    model = mlp(8, 6, 6, 6, 3, activation=nn.Tanh)
    model[2].weight.data.zero_()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    x = torch.randn(32, 8, generator=seeded())
    before, held = copy.deepcopy(model.state_dict()), optimizer.state_dict()
    found = surveyed(model, x, optimizer=optimizer).signals
    assert found.gradients["0"] == 0 < found.later["0"]
    assert found.steps == 5
    assert optimizer.state_dict() == held
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_cannot_be_copied_is_judged_by_the_first_look():
    class Once(nn.Module):
        def __deepcopy__(self, memo):
            raise RuntimeError("there is only one of me")

        def forward(self, x):
            return x

    model = mlp(8, 6, 6, 6, 3)
    model[2].weight.data.zero_()
    model.append(Once())
    found = surveyed(model, torch.randn(32, 8, generator=seeded())).signals
    assert found.not_repeated == "RuntimeError: there is only one of me"
    assert not found.later


def test_a_schedulers_step_does_not_reach_the_original():
    """The scheduler has put a step bound to the user's optimiser in its place."""
    model = mlp(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    called = []
    optimizer.register_step_post_hook(lambda *_: called.append(1))
    twin, held = copies(model, optimizer)
    before = model[0].weight.detach().clone()
    twin(torch.ones(1, 4)).sum().backward()
    step(held)
    assert torch.equal(model[0].weight, before)
    assert not torch.equal(twin[0].weight, before)
    assert not called
