"""The common part of what layer norms, group norms and softmax read is taken away."""

import copy

import pytest
import torch
from torch import nn

from centring import INPUTS, Cancels, bert, drawn, encoder, gpt2, mend, vit
from plumbob.rewrites.centre_before_group_norm import centre_before_group_norm
from plumbob.rewrites.centre_before_layer_norm import centre_before_layer_norm
from plumbob.rewrites.centre_logits import centre_logits
from plumbob.survey.seen import seen
from theorems import normals

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def centred(p, axis):
    return float(p.double().mean(axis).abs().max()) < 1e-6


SOME = {
    bert: {"embeddings.word_embeddings.weight": 1},
    gpt2: {"h.0.mlp.c_proj.weight": 1, "wpe.weight": 1},
    vit: {
        "embeddings.cls_token": 2,
        "embeddings.position_embeddings": 2,
        "embeddings.patch_embeddings.projection.weight": 0,
    },
    encoder: {"layers.0.self_attn.out_proj.weight": 0, "layers.0.linear2.bias": 0},
}


@pytest.mark.parametrize("build", SOME)
def test_transformers(build):
    model, data = drawn(build()), INPUTS[build]
    before = seen(model)
    done = mend(centre_before_layer_norm, model, data)
    assert seen(model) == before
    proof = done.certificate
    assert proof.identity_ulps < 100
    assert set(SOME[build]) < set(proof.places) == set(proof.changed)
    for parameter, axis in SOME[build].items():
        assert not centred(model.get_parameter(parameter), axis)
        assert centred(done.model.get_parameter(parameter), axis)


def test_once_is_enough():
    x = normals(6, 3)
    net = nn.Sequential(nn.Conv1d(1, 8, 3), nn.Flatten(1), nn.LayerNorm(8))
    done = mend(centre_before_layer_norm, drawn(net), x[:, None])
    again = mend(centre_before_layer_norm, done.model, x[:, None])
    assert again.certificate is None
    pairs = zip(done.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_a_row_of_padding_stays_zero():
    model = drawn(nn.Sequential(nn.Embedding(5, 4, padding_idx=2), nn.LayerNorm(4)))
    with torch.no_grad():
        model[0].weight[2] = 0
    done = mend(centre_before_layer_norm, model, torch.tensor([[0, 1, 2, 3]]))
    assert not done.model[0].weight[2].any()
    assert centred(done.model[0].weight, 1)


def test_training_goes_the_same_way_without_what_nothing_sees():
    """The gradient has no part along it, so Adam's steps are the same."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 1))
    model, x = drawn(net).double().train(), normals(32, 3).double()
    done = mend(centre_before_layer_norm, model, x, goal="training")
    assert done.certificate.claim.value == "exact"
    ends = []
    for each in (copy.deepcopy(model), done.model):
        optimizer = torch.optim.AdamW(each.parameters(), 1e-2)
        for _ in range(20):
            optimizer.zero_grad()
            (each(x) - x.prod(1, keepdim=True)).square().mean().backward()
            optimizer.step()
        ends.append(each(x))
    assert torch.allclose(*ends, rtol=1e-9)
    assert not torch.allclose(ends[0], model(x), rtol=1e-2)


def test_dropout_before_the_norm_leaves_nothing_for_training():
    model = drawn(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.LayerNorm(4)))
    x = normals(6, 3)
    assert not mend(centre_before_layer_norm, model, x, goal="training").certificate
    done = mend(centre_before_layer_norm, model, x)
    assert done.certificate.claim.value == "eval-only"


class Doubled(nn.Module):
    def __init__(self, tie):
        super().__init__()
        self.table, self.norm = nn.Embedding(6, 4), nn.LayerNorm(4)
        self.head = nn.Linear(4, 6)
        if tie:
            self.head.weight = self.table.weight

    def forward(self, i):
        return self.head(self.norm(self.table(i)))


def test_a_tied_head():
    i = torch.arange(6).view(2, 3)
    assert not mend(centre_before_layer_norm, drawn(Doubled(True)), i).certificate
    assert mend(centre_before_layer_norm, drawn(Doubled(False)), i).certificate


def test_two_maps_of_one_weight_are_refused():
    model = drawn(nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(2))))
    model.append(nn.LayerNorm(4))
    model.append(copy.deepcopy(model[0]))
    model.append(nn.LayerNorm(4))
    model[3].weight = model[1].weight
    done = mend(centre_before_layer_norm, model, normals(5, 4))
    (refusal,) = done.refused
    assert refusal.place == "1.weight"
    assert "it is shared with 3.weight" in refusal.why
    assert torch.equal(done.model[1].weight, model[1].weight)


def test_what_rounds_too_coarsely():
    """Whole numbers of 8 bits cancel each other in bfloat16, parts of them do not."""
    model, i = Cancels().bfloat16(), torch.arange(8)
    done = mend(centre_before_layer_norm, model, i)
    assert done.certificate is None
    assert {refusal.place for refusal in done.refused} == {"one.weight", "two.weight"}
    assert all("it rounds too coarsely" in refusal.why for refusal in done.refused)
    assert torch.equal(done.model.one.weight, model.one.weight)


def test_groups_and_logits():
    model = drawn(
        nn.Sequential(
            nn.Linear(3, 8),
            nn.GroupNorm(2, 8),
            nn.Linear(8, 5),
            nn.LogSoftmax(-1),
        )
    )
    x = normals(6, 3)
    groups = mend(centre_before_group_norm, model, x, goal="training")
    assert groups.certificate.places == ("0.bias", "0.weight")
    assert centred(groups.model[0].weight.unflatten(0, (2, 4)), 1)
    logits = mend(centre_logits, model, x, goal="training")
    assert logits.certificate.places == ("2.bias", "2.weight")
    assert centred(logits.model[2].weight, 0)
