import torch
from torch import nn
from torch.nn.functional import mse_loss

from netting import seeded
from plumbob.survey.measure import measure


class Sum(nn.Module):
    """A map of the sum of all inputs."""

    def __init__(self, bend):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(3, 4), bend, nn.Linear(4, 1))

    def forward(self, *inputs):
        return self.a(sum(inputs))


def unseen(x, y, bend):
    survey = measure(Sum(bend), (x, y), loss=mse_loss)
    return survey.unseen.get("inputs, in part", "")


def test_what_is_not_judged_of_the_inputs_is_told():
    x, y = torch.randn(40, 3, generator=seeded()), torch.randn(40, 1)
    assert "among several" in unseen((x, 2 * x), y, nn.ReLU())
    assert "only one input" in unseen((x, 2 * x), y, nn.Identity())
    assert "19 samples" in unseen(x[:19], y[:19], nn.Identity())
    assert not unseen(x, y, nn.Identity())
    assert not unseen(x[:19], y[:19], nn.ReLU())


def test_a_loss_that_refuses_what_no_output_gives_is_told_of():
    def loss(outputs, targets):
        if bool((outputs == targets).all()):
            raise ValueError("too good to be true")
        return mse_loss(outputs, targets)

    x, y = torch.randn(40, 3, generator=seeded()), torch.randn(40, 1)
    model = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())
    survey = measure(model, (x, y), loss=loss)
    assert "too good to be true" in survey.unseen["inputs, in part"]
    assert survey.inputs.reach is None
