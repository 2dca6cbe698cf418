"""Steps on a copy: what they tell, and that nothing of the user's is touched."""

import copy

import pytest
import torch
from torch import nn

from nets_optimizer import task
from netting import mlp, seeded
from plumbob.survey.measure import measure

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
}


def trained(net, optimizer, case, steps):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = case["loss"](net(case["data"]), case["targets"])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def state(optimizer):
    return copy.deepcopy(optimizer.state_dict())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_copy_trains_as_the_model_would(name):
    net, case = mlp(8, 16, 3), task()
    optimizer = OPTIMIZERS[name](net.parameters())
    trained(net, optimizer, case, 3)  # so that there is a state to copy
    before = state(optimizer)
    weights = [p.detach().clone() for p in net.parameters()]
    step = measure(net, **case, optimizer=optimizer).step
    assert repr(before) == repr(state(optimizer))
    assert all(map(torch.equal, weights, net.parameters()))
    assert step.losses[:20] == pytest.approx(trained(net, optimizer, case, 20))


def test_moves_are_those_of_one_step():
    net, case = mlp(8, 16, 3), task()
    net[0].bias.requires_grad_(False)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    moves = measure(net, **case, optimizer=sgd).step.moves
    weights = {n: p.detach().clone() for n, p in net.named_parameters()}
    trained(net, sgd, case, 1)
    for name, p in net.named_parameters():
        change = float((p.detach() - weights[name]).norm())
        assert moves[name].change == pytest.approx(change, rel=1e-5)
        assert moves[name].size == pytest.approx(float(weights[name].norm()), rel=1e-5)
    assert moves["0.bias"].pulled == 0
    assert moves["2.bias"].pulled == 3


def test_the_same_dropout_in_every_pass():
    """A rate of 0 leaves the loss where it is, to the last bit."""
    net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3))
    sgd = torch.optim.SGD(net.parameters(), lr=0.0)
    step = measure(net, **task(), optimizer=sgd).step
    assert len(set(step.losses)) == 1


def test_batch_norm_is_stepped_in_training_mode_and_left_as_it_was():
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)).eval()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    step = measure(net, **task(), optimizer=sgd).step
    assert step.losses[-1] < step.losses[0]
    assert not any(module.training for module in net.modules())
    assert net[1].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("optimizer", "told"),
    [
        (torch.optim.LBFGS, "asks for the loss anew"),
        (lambda _: torch.optim.SGD(nn.Linear(1, 1).parameters()), "none of this"),
        (torch.optim.SparseAdam, "RuntimeError: SparseAdam"),
    ],
)
def test_a_step_that_cannot_be_tried_is_told(optimizer, told):
    net = mlp(8, 16, 3)
    survey = measure(net, **task(), optimizer=optimizer(net.parameters()))
    assert told in survey.unseen["step, in part"]
    assert not survey.step.moves


def test_hooks_and_schedulers_of_the_user_stay_out_of_it():
    net, ran = mlp(8, 16, 3), []
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(sgd, 1)
    sgd.register_step_post_hook(lambda *_: ran.append("step"))
    net[0].weight.register_hook(lambda g: ran.append("gradient"))
    measure(net, **task(), optimizer=sgd)
    assert "step" not in ran
    assert scheduler.last_epoch == 0
    assert not any(p.grad is not None for p in net.parameters())


def test_a_penalty_in_the_loss_is_stepped_on_too():
    """Its gradient is that of the copies, though the loss reads the model."""
    net, case = mlp(8, 16, 3), task()
    case["loss"] = lambda out, target: (
        0 * out.sum() + sum(p.square().sum() for p in net.parameters())
    )
    sgd = torch.optim.SGD(net.parameters(), lr=0.25)
    losses = measure(net, **case, optimizer=sgd).step.losses
    assert losses[1] == pytest.approx(losses[0] / 4, rel=1e-4)  # w - lr 2 w = w / 2


def test_tied_and_recurrent_parameters():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.rnn = nn.Embedding(11, 8), nn.LSTM(8, 8, batch_first=True)
            self.head = nn.Linear(8, 11, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens):
            return self.head(self.rnn(self.table(tokens))[0]).mT

    torch.manual_seed(0)
    net = Net()
    tokens = torch.randint(11, (16, 5), generator=seeded())
    case = {"data": tokens, "targets": tokens, "loss": nn.CrossEntropyLoss()}
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    step = measure(net, **case, optimizer=adam).step
    assert step.losses[:20] == pytest.approx(trained(net, adam, case, 20), rel=1e-4)
    assert "head.weight" not in step.moves


def test_a_large_model_takes_one_step(monkeypatch):
    monkeypatch.setattr("plumbob.survey.step.AFFORDED", 0.0)
    net, case = mlp(8, 16, 3), task()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    step = measure(net, **case, optimizer=sgd).step
    assert len(step.losses) == 2
    assert step.losses[0] == pytest.approx(trained(net, sgd, case, 1)[0])
    assert 0 < step.curvature < 2


@pytest.mark.parametrize(("shift", "told"), [(0.0, False), (-100.0, True)])
def test_a_loss_of_0_or_below_is_told(shift, told):
    model = mlp(8, 16, 3)
    survey = measure(
        model,
        torch.randn(16, 8, generator=seeded()),
        targets=torch.randn(16, 3, generator=seeded(1)),
        loss=lambda output, targets: (output - targets).square().mean() + shift,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
    )
    assert ("0 or below" in survey.unseen.get("step, in part", "")) is told
