"""One training: what is made of what was given, and its curve against a plain loop."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from plumbob import InputError
from plumbob.trials.run import Plan, run, start


def as_it_is(model, optimizer, data, loss):
    return optimizer, ()


def plan(**options):
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    case = {
        "build": partial(nn.Linear, 3, 1),
        "data": (x, x.sum(1, keepdim=True)),
        "loss": mse_loss,
        "optimizer": partial(torch.optim.SGD, lr=0.1),
        "steps": 5,
        "arms": {"as it is": as_it_is},
    }
    return Plan(**(case | options))


def test_the_curve_is_that_of_a_plain_loop():
    x, y = torch.full((4, 3), 0.1), torch.ones(4, 1)
    valid = [(torch.full((n, 3), float(n)), torch.zeros(n, 1)) for n in (1, 3)]
    found = run(plan(data=[(x, y)], valid=valid, steps=3), "as it is", 7)
    torch.manual_seed(7)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step, loss, metric in found.curve:
        if step:
            optimizer.zero_grad()
            mse_loss(model(x), y).backward()
            optimizer.step()
        outputs = torch.cat([model(inputs) for inputs, _ in valid])
        assert loss == pytest.approx(outputs.detach().square().mean().item())
        assert metric is None
    assert step == 3


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.SGD,
        partial(torch.optim.SGD, lr=0.1),
        lambda model: torch.optim.SGD(model.parameters()),
        lambda params: torch.optim.SGD(params),
        lambda model: [torch.optim.SGD([p]) for p in model.parameters()],
        "torch.optim:SGD",
    ],
)
def test_optimisers_are_made_of_the_model_or_its_parameters(make):
    found = run(plan(optimizer=make), "as it is", 0)
    assert found.loss < found.curve[0][1]


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.SGD([nn.Parameter(torch.zeros(1))]),
        lambda model: torch.optim.SGD([nn.Parameter(torch.zeros(1))]),
    ],
)
def test_the_optimiser_of_another_model_is_refused(make):
    with pytest.raises(InputError, match="of other parameters"):
        start(plan(optimizer=make), 0)


def test_a_function_that_returns_one_model_again_and_again_is_no_trap():
    model = nn.Linear(3, 1)
    again = plan(build=lambda: model)
    assert run(again, "as it is", 0) == run(again, "as it is", 0)
    assert model.weight.grad is None


def test_weight_norm_has_no_copy_but_can_be_made():
    def build():
        with pytest.warns(FutureWarning):
            model = nn.utils.weight_norm(nn.Linear(3, 1))
        model(torch.ones(1, 3))  # now its weight is a computed tensor
        return model

    assert run(plan(build=build), "as it is", 0).ended
    with pytest.raises(InputError, match="pass a function that makes it"):
        start(plan(build=build()), 0)


def test_validation_is_in_inference_mode_and_modes_are_kept():
    class Watch(nn.Linear):
        seen: list[tuple[bool, bool]] = []  # ruff: ignore[mutable-class-default]

        def forward(self, x):
            self.seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    def build():
        model = nn.Sequential(Watch(3, 1), nn.BatchNorm1d(1))
        model[1].eval()
        return model

    def watch(model, optimizer, data, loss):
        kept.append(model)
        return optimizer, ()

    kept = []
    run(plan(build=build, steps=2, arms={"x": watch}), "x", 0)
    off, on = (False, False), (True, True)
    assert Watch.seen == [off, on, off, on, off]
    assert not kept[0][1].training
    assert kept[0][0].training


def test_a_model_that_comes_in_inference_mode_is_trained():
    assert start(plan(build=nn.Linear(3, 1).eval()), 0).model.training


def test_accuracy_is_known_for_classes_and_a_metric_may_be_given():
    x = torch.randn(40, 3)
    classes = plan(
        build=partial(nn.Linear, 3, 3),
        data=(x, x.argmax(1)),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.SGD, lr=5.0),
        steps=50,
    )
    assert run(classes, "as it is", 0).metric >= 0.75
    assert run(plan(), "as it is", 0).metric is None
    given = plan(metric=lambda outputs, targets: (outputs - targets).abs().mean())
    found = run(given, "as it is", 0)
    assert 0 < found.metric < found.curve[0][2]


def test_a_loss_that_is_not_finite_ends_the_run():
    found = run(plan(optimizer=partial(torch.optim.SGD, lr=1e30)), "as it is", 0)
    assert not found.ended
    assert found.diverged <= 3
    assert all(loss < float("inf") for _, loss, _ in found.curve)
    never = run(plan(loss=lambda out, y: out.sum() * float("nan")), "as it is", 0)
    assert (never.diverged, never.curve) == (0, ())


def test_targets_that_the_loss_ignores_are_not_counted():
    x = torch.eye(4)
    y = torch.tensor([0, 1, 7, 7])

    def build():
        model = nn.Linear(4, 4, bias=False)
        nn.init.eye_(model.weight)
        return model

    for loss, ignored in (
        (nn.CrossEntropyLoss(ignore_index=7), 7),
        (cross_entropy, -100),
    ):
        batches = [(x, torch.where(y < 7, y, ignored))]
        case = plan(build=build, data=batches, valid=batches, loss=loss, steps=1)
        assert run(case, "as it is", 0).metric == pytest.approx(1)


def test_a_loss_with_something_to_train_is_refused():
    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, outputs, targets):
            return mse_loss(self.scale * outputs, targets)

    with pytest.raises(InputError, match="Loss with parameters of its own"):
        start(plan(loss=Loss()), 0)
    assert start(plan(loss=Loss().requires_grad_(False)), 0).loss


def test_an_optimiser_that_calls_the_loss_itself_is_refused():
    with pytest.raises(InputError, match="got LBFGS"):
        run(plan(optimizer=torch.optim.LBFGS), "as it is", 0)


def test_data_that_can_be_looped_over_once_are_told():
    class Once:
        def __init__(self, items):
            self.items = iter(items)

        def __iter__(self):
            return self.items

    rows = (torch.ones(4, 3), torch.ones(4, 1))
    once = plan(data=Once([rows] * 2), valid=[rows])
    with pytest.raises(InputError, match="ended after 2 of 5 batches; pass a loader"):
        run(once, "as it is", 0)


def test_a_loss_without_parameters_is_copied():
    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, outputs, targets):
            self.calls += 1
            return mse_loss(outputs, targets)

    loss = Loss()
    run(plan(loss=loss), "as it is", 0)
    assert loss.calls == 0
