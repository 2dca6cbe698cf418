import pytest

from plumbob.rule import findings
from plumbob.rules.key_bias import key_bias
from plumbob.types import Census, Needs, Proof, Safety, Survey


def proof(**changes):
    verdict = {"by": "softmax-key", "training": "null", "inference": "null"}
    facts = {"parameter": "attn.in_proj_bias", "rows": (4, 8), "steps": ("it ends",)}
    return Proof(**facts | verdict | changes)


def found(*proofs):
    tensors = {
        "attn.in_proj_bias": Census(
            shape=(12,), dtype="float32", count=12, low=-0.5, high=0.25
        )
    }
    survey = Survey(sites=(), known=Needs.GRAPH, proofs=proofs, tensors=tensors)
    return list(findings(key_bias, survey))


def test_key_rows_of_a_packed_bias():
    (finding,) = found(proof(error=1e-16))
    assert finding.units == (4, 5, 6, 7)
    evidence = {"elements": 4, "count": 12, "largest": 0.5, "error": 1e-16}
    assert finding.evidence == evidence
    assert finding.message.startswith("4 of the 12 elements")


def test_one_finding_for_the_stripes_of_a_parameter():
    """Heads that interleave query, key and value have one stripe each."""
    (finding,) = found(proof(rows=(2, 4), error=1e-16), proof(rows=(8, 10)))
    assert finding.units == (2, 3, 8, 9)
    assert "error" not in finding.evidence


@pytest.mark.parametrize(
    "changes",
    [{"by": "softmax"}, {"by": "bias", "inference": "gauge", "training": None}],
)
def test_other_proofs_are_none(changes):
    assert not found(proof(**changes))


def test_exact_only_where_both_modes_are_proved():
    assert found(proof())[0].remedy.safety is Safety.EXACT
    assert found(proof(training=None))[0].remedy.safety is Safety.MANUAL
    assert found(proof(on_this_path=True))[0].remedy.safety is Safety.MANUAL
