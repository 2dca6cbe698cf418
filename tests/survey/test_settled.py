"""Which findings fall silent: those along which there is nothing left to take."""

import pytest
import torch
from torch import nn

import plumbob
from families import First
from fixing import told
from nets import seeded
from plumbob.survey.settled import centred
from theorems import Attend, bert, normals, tokens


def set_to(model, parameter, values, *, trainable):
    p = model.get_parameter(parameter)
    with torch.no_grad():
        p.copy_(torch.as_tensor(values, dtype=p.dtype).expand_as(p))
    p.requires_grad_(trainable)
    return model


def small_bert():
    model = bert()
    model.encoder.layer = model.encoder.layer[:1]
    return model


def normed(norm, values, *, trainable):
    model = nn.Sequential(nn.Linear(3, 4), norm, nn.Tanh(), nn.Linear(4, 2))
    return set_to(model, "0.bias", values, trainable=trainable)


SOME = (1.0, -2.0, 3.0, 0.5)


@pytest.mark.parametrize(
    ("values", "trainable", "reported"),
    [
        (SOME, True, True),
        (SOME, False, True),  # it can be taken away
        (0.0, True, True),  # it starts so, and an optimiser moves it
        (0.0, False, False),
        ((1e-30, 0.0, 0.0, 0.0), False, True),
        ((0.0, 0.0, 0.0, 0.5), False, True),
    ],
)
def test_a_null_bias_is_settled_where_it_stays_at_zero(values, trainable, reported):
    model = normed(nn.BatchNorm1d(4), values, trainable=trainable)
    assert (("PB301", "0.bias") in told(model, normals(8, 3))) is reported


@pytest.mark.parametrize(
    ("values", "trainable", "reported"),
    [
        (SOME, True, True),
        ((1.0, -2.0, 0.5, 0.5), True, False),
        ((1.0, -2.0, 0.5, 0.5 + 1e-3), True, True),
        (0.0, True, True),  # it may only start so
        (0.0, False, False),
    ],
)
def test_a_common_part_is_settled_where_the_rest_is_centred(
    values, trainable, reported
):
    model = normed(nn.LayerNorm(4, bias=False), values, trainable=trainable)
    assert (("PB305", "0.bias") in told(model, normals(8, 3))) is reported


def test_every_group_must_be_centred():
    values = torch.tensor([1.0, -1.0, 2.0, 2.0])
    assert not centred(values, groups=2)
    assert centred(torch.tensor([1.0, -1.0, 2.0, -2.0]), groups=2)
    columns = torch.tensor([[1.0, -1.0], [2.0, -2.0]])
    assert centred(columns, axis=1)
    assert not centred(columns, axis=0)


@pytest.mark.parametrize(
    ("blocks", "reported"),
    [
        ((0, 0, 0), {"PB303", "PB304"}),  # as it is built
        ((1, 0, 1), {"PB304"}),
        ((1, 0, 0), set()),
        ((1, 1, 0), {"PB303"}),
        ((0, 1, 1), {"PB303", "PB304"}),
    ],
)
def test_rows_of_a_packed_bias_are_settled_beside_others(blocks, reported):
    values = torch.tensor(blocks, dtype=torch.float32).repeat_interleave(16)
    model = set_to(Attend().eval(), "attend.in_proj_bias", values, trainable=True)
    assert {code for code, _ in told(model, normals(2, 5, 16))} == reported


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("trainable", [True, False])
def test_of_two_biases_that_carry_one_another_one_is_settled(layer, trainable):
    """Where it is, the other one is all there is."""
    model = First(layer(3, 4), 4).eval()
    zeros = torch.ones(len(model.layer.bias_ih_l0))
    zeros[: 8 if layer is nn.GRU else 16] = 0  # a candidate's stays
    set_to(model, "layer.bias_ih_l0", zeros, trainable=trainable)
    found = told(model, normals(4, 5, 3))
    start = trainable and layer is nn.LSTM
    assert found == ({("PB308", "layer.bias_ih_l0")} if start else set())


def test_a_norm_is_reported_also_where_one_of_its_carriers_is_frozen_at_zero():
    """The key bias gives nothing up to others: the softmax takes what it is given."""
    model = small_bert().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.normal_(generator=seeded())
    before = told(model, tokens())
    keys = {site for code, site in before if code == "PB303"}
    (name,) = keys
    set_to(model, name, 0.0, trainable=False)
    assert told(model, tokens()) == {one for one in before if one[0] != "PB303"}


def test_what_training_lets_stand_is_reported_beside_what_it_froze():
    model, data = small_bert().train(), tokens()
    fixed, proof = plumbob.fix(model, data, goal="training", mode="zero")
    done = {(c.code, place) for c in proof.certificates for place in c.places}
    assert {code for code, _ in done} >= {"PB303"}
    assert told(fixed, data) == told(model, data) - done
