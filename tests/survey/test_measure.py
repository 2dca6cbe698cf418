"""The rooms together: what is known from which facts, and what a survey holds."""

import pytest
import torch
from torch import nn

from nets import mlp, seeded
from plumbob import InputError, Needs, Stage
from plumbob.survey.measure import measure

X, Y = torch.randn(64, 8, generator=seeded()), torch.arange(64) % 3
LOSS = nn.CrossEntropyLoss()


def test_what_is_known_from_what_is_given():
    model = mlp(8, 16, 3)
    assert measure(model).known == Needs.WEIGHTS | Needs.STAGE  # He's normal, zero b
    survey = measure(model, X)
    assert Needs.GRAPH | Needs.ACTIVATIONS in survey.known
    assert Needs.GRADIENTS not in survey.known
    full = measure(
        model,
        X,
        targets=Y[torch.randperm(64, generator=seeded())],
        loss=LOSS,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
    )
    assert full.known == ~Needs.HISTORY
    assert full.about["samples"] == 64
    assert full.about["loss"] == pytest.approx(
        float(LOSS(model(X), Y[torch.randperm(64, generator=seeded())]).detach())
    )


def test_said_stage_wins_over_unknown():
    stages = {site.stage for site in measure(mlp(8, 4, 3), X, stage="trained").sites}
    assert stages == {Stage.TRAINED}
    with pytest.raises(InputError, match=r"got 'trainde'.*Did you mean 'trained'"):
        measure(mlp(8, 4, 3), X, stage="trainde")


def test_digest_names_the_weights():
    model = mlp(8, 4, 3)
    before = measure(model).about["digest"]
    assert before == measure(model, X).about["digest"]
    model[0].weight.data[0, 0] += 1e-3
    assert before != measure(model).about["digest"]


def test_meta_model_is_judged_by_its_structure():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU())
    survey = measure(model, X)
    assert [proof.parameter for proof in survey.proofs] == ["0.bias"]
    assert Needs.ACTIVATIONS not in survey.known
    assert survey.tensors == {}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: x, "expected a torch.nn.Module, got function"),
        (nn.ReLU(), "ReLU has no parameters"),
        (nn.LazyLinear(3), "has no shape yet"),
    ],
)
def test_no_model(model, message):
    with pytest.raises(InputError, match=message):
        measure(model, X)


def test_compiled_model_is_its_module():
    model = mlp(8, 4, 3)
    assert [s.name for s in measure(torch.compile(model), X).sites] == ["0", "2"]


def test_weights_are_kept_only_for_pictures():
    model = mlp(8, 4, 3)
    kept = measure(model, X, keep=16).readings["0"]
    assert kept.weight == pytest.approx(model[0].weight.detach().numpy())
    assert 4 < len(kept.sample) <= 16
    assert measure(model, X).readings["0"].weight is None
