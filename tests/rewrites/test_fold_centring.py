"""Centring as a rewrite: the mean is measured, and all is certified."""

import pytest
import torch
from torch import nn

import plumbob
from families import First
from fixing import nothing_left
from nets import seeded
from plumbob.rewrites import REWRITES
from plumbob.rewrites.fold_centring import fold_centring
from plumbob.survey.seen import seen
from plumbob.types import Safety

NAME = "fold-centring"


def drawn(*shape, mean=3.0):
    return torch.randn(*shape, generator=seeded()) + mean


def tied():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7))
    model[2].weight = model[0].weight
    return model, torch.arange(7)[None]


CASES = {
    "linear": lambda: (nn.Linear(3, 4), drawn(8, 3), {"Linear"}),
    "no bias": lambda: (
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh()), drawn(8, 3), {"0"}
    ),
    "padded": lambda: (
        nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3)),
        drawn(4, 2, 6, 6),
        {"0", "2"},
    ),
    "recurrent": lambda: (
        First(nn.LSTM(3, 4, 2, bidirectional=True), 8), drawn(5, 4, 3),
        {"layer", "head"},
    ),
    "attention": lambda: (
        nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), drawn(3, 5, 8),
        {"linear1", "linear2"},  # the projections are not called
    ),
    "tied": lambda: (*tied(), {"1", "2"}),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "goal"), [*((kind, "inference") for kind in CASES), ("padded", "training")]
)
def test_it_is_the_same_function_and_nothing_is_left_to_do(kind, goal):
    torch.manual_seed(0)
    model, x, places = CASES[kind]()
    before = seen(model)
    fixed, proof = plumbob.fix(model, x, goal=goal, select=NAME)
    assert seen(model) == before
    assert {place for c in proof.certificates for place in c.places} == places
    for made in proof.certificates:
        assert (made.holds, made.precise, made.claim) == (True, True, Safety.EXACT)
        assert not made.removed
        assert all(name.rpartition(".")[2] == "input_mean" for name in made.added) is (
            kind != "no bias"
        )
    nothing_left(fixed, x, goal=goal, select=NAME)


def test_the_mean_is_that_of_the_batch_in_inference():
    model, x = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 4)), drawn(64, 3)
    weight, bias = model[1].weight.detach(), model[1].bias.detach()
    fixed, _ = plumbob.fix(model.train(), x, select=NAME)
    torch.testing.assert_close(fixed[1].input_mean, x.mean(0))
    torch.testing.assert_close(fixed[1].bias.detach(), bias + weight @ x.mean(0))


def test_it_is_done_only_where_it_is_named():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), drawn(8, 3)
    assert fold_centring not in REWRITES
    for select in (None, "PB205", "PB2"):
        nothing_left(model, x, select=select)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda m: m[0].register_forward_hook(lambda *_: None), "0 has hooks"),
        (lambda m: m.register_parameter("same", m[0].bias), "shared"),
    ],
)
def test_what_it_refuses_and_why(spoil, why):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    spoil(model)
    fixed, proof = plumbob.fix(model, drawn(8, 3), select=NAME)
    assert not proof.certificates
    (refusal,) = proof.refused
    assert (refusal.rewrite, refusal.place) == (NAME, "0")
    assert why in refusal.why
    assert not hasattr(fixed[0], "input_mean")


def test_the_schema_stays_where_it_is_to_stay():
    _, proof = plumbob.fix(nn.Linear(3, 4), drawn(8, 3), select=NAME, mode="zero")
    (refusal,) = proof.refused
    assert "mode='zero' keeps" in refusal.why


def test_no_form_tells_of_a_hook():
    _, proof = plumbob.fix(nn.Linear(3, 4), drawn(8, 3), select=NAME)
    assert "input_mean" in proof.form.added
    assert proof.unloadable
