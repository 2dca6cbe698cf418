import pytest
from torch import nn

import plumbob
from theorems import bert, normals, tokens


def found(model, *data):
    return plumbob.check(model, data, select="PB309").findings


def test_the_post_norm_beta_of_bert():
    """The residual's sibling bias carries it too; the last norm's beta counts."""
    findings = found(bert(), tokens())
    names = {"embeddings.LayerNorm.bias"}
    names |= {
        f"encoder.layer.{i}.{part}.LayerNorm.bias"
        for i in range(2)
        for part in ("attention.output", "output")
    }
    assert {f.site for f in findings} == names - {
        "encoder.layer.1.output.LayerNorm.bias"
    }
    counts = {f.site: f.evidence["carriers"] for f in findings}
    assert counts["embeddings.LayerNorm.bias"] == 4  # q, k, v and the branch's own


@pytest.mark.parametrize(
    ("after", "leans"),
    [
        (nn.Linear(8, 2), True),
        (nn.Linear(8, 2, bias=False), False),
        (nn.ReLU(), False),
        (nn.Identity(), False),
    ],
    ids=["map", "no bias", "relu", "output"],
)
def test_what_reads_the_norm(after, leans):
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), after)
    assert bool(found(model, normals(6, 4))) is leans
