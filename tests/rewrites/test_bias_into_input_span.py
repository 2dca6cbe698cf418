import pytest
import torch
from torch import nn

from nets_redundancy import bias_in_input_span
from netting import seeded
from plumbob.rewrites.bias_into_input_span import bias_into_input_span
from rewriting import done, offers, refusals, settled


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=seeded(1))


def soft(dim=-1):
    return nn.Sequential(nn.Linear(3, 4), nn.Softmax(dim), nn.Linear(4, 2))


def test_shares_carry_the_bias():
    model = soft()
    mended = done(bias_into_input_span, model, drawn(8, 3))
    expected = model[2].weight.double() + model[2].bias.double()[:, None]
    assert torch.equal(mended[2].weight, expected.float())
    assert mended[2].bias is None
    assert settled(bias_into_input_span, mended, drawn(8, 3))


def test_a_softmax_over_other_things_does_not_sum_to_one():
    assert not offers(bias_into_input_span, soft(0), drawn(8, 3))


def test_what_adds_up_on_a_batch_is_seen_not_proved():
    case = bias_in_input_span(leans=True)
    assert not offers(bias_into_input_span, case["model"], case["data"])


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.b(self.b(self.a(x).softmax(-1)))


def test_a_map_that_also_reads_other_things_keeps_its_bias():
    (why,) = refusals(bias_into_input_span, Twice(), drawn(8, 3))
    assert "b.weight is used more than once" in why
