import pytest

from plumbob.rule import findings
from plumbob.rules.bias_before_batch_norm import bias_before_batch_norm
from plumbob.types import Needs, Proof, Safety, Severity, Survey


def proof(**changes):
    verdict = {"by": "batch-norm", "training": "null", "inference": "gauge"}
    facts = {"parameter": "conv.bias", "rows": (0, 4), "steps": ("it ends",)}
    return Proof(**facts | verdict | changes)


def found(*proofs):
    survey = Survey(sites=(), known=Needs.GRAPH, proofs=proofs)
    return list(findings(bias_before_batch_norm, survey))


def test_a_proof_is_a_finding():
    (finding,) = found(proof(error=1e-16))
    assert (finding.site, finding.units) == ("conv.bias", (0, 1, 2, 3))
    assert finding.severity is Severity.INFO
    assert finding.evidence == {"elements": 4, "error": 1e-16}
    assert finding.steps == ("it ends",)
    assert finding.message == "nothing in training sees the 4 elements of this bias"


@pytest.mark.parametrize(
    "changes",
    [{"training": "gauge"}, {"training": None}, {"by": "instance-norm"}],
)
def test_other_proofs_are_none(changes):
    assert not found(proof(**changes))


@pytest.mark.parametrize(
    ("changes", "safety"),
    [
        ({}, Safety.EXACT),
        ({"inference": "null"}, Safety.EXACT),
        ({"inference": None}, Safety.MANUAL),
        ({"on_this_path": True}, Safety.MANUAL),
    ],
)
def test_exact_only_where_inference_is_proved_too(changes, safety):
    (finding,) = found(proof(**changes))
    assert finding.remedy.safety is safety
