import pytest
from torch import nn

import plumbob
from nets_redundancy import unfolded_batch_norm
from netting import mlp
from theorems import normals


def found(model, *data, stage="trained"):
    return plumbob.check(model, data, stage=stage, select="PB312").findings


def test_the_finding():
    report = plumbob.check(**unfolded_batch_norm(leans=True), select="PB312")
    (finding,) = report.findings
    assert (finding.site, finding.evidence) == (None, {"norms": 1})
    assert finding.steps[0].startswith("in training it counts")


def normed(*, training=False, between=None):
    model = mlp(8, 16, 2)
    model.insert(1, nn.BatchNorm1d(16))
    if between:
        model.insert(1, between)
    return model.train(training)


@pytest.mark.parametrize("stage", ["init", None])
def test_only_of_what_is_said_to_be_trained(stage):
    assert not found(normed(), normals(9, 8), stage=stage)


def test_not_behind_an_activation_nor_in_training():
    assert not found(normed(between=nn.ReLU()), normals(9, 8))
    assert not found(normed(training=True), normals(9, 8))
    assert found(normed(), normals(9, 8))


def test_another_norm_is_none():
    model = mlp(8, 16, 2)
    model.insert(1, nn.LayerNorm(16))
    assert not found(model.eval(), normals(9, 8))
