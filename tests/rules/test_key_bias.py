import pytest

from plumbob.rule import findings
from plumbob.rules.key_bias import key_bias
from plumbob.types import Census, Needs, Proof, Safety, Site, Survey


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


def remedy(*, site=None, **changes):
    key = {"name": "key", "kind": "linear", "out": 12, "fan_in": 8}
    key |= {"weight": "key.weight", "bias": "key.bias"}
    survey = Survey(
        sites=(Site(**key | (site or {})),),
        known=Needs.GRAPH,
        proofs=(proof(**{"parameter": "key.bias", "rows": (0, 12)} | changes),),
        tensors={"key.bias": Census(shape=(12,), dtype="float32", count=12)},
    )
    return next(iter(findings(key_bias, survey))).remedy


def test_taken_away_where_both_modes_are_proved():
    assert remedy().act == "drop-null-bias"
    assert remedy().safety is Safety.EXACT
    assert remedy().arguments == {"parameter": "key.bias"}


@pytest.mark.parametrize(
    ("changes", "safety"),
    [
        ({"training": None}, Safety.EVAL_ONLY),
        ({"on_this_path": True}, Safety.MANUAL),
        ({"rows": (4, 8)}, Safety.EXACT),
        ({"site": {"rows": (0, 12)}}, Safety.EXACT),
        ({"site": {"transposed": True}}, Safety.EXACT),
    ],
)
def test_else_it_takes_the_model_and_data(changes, safety):
    assert remedy(**changes).act is None
    assert remedy(**changes).safety is safety
    by_fix = "(plumbob fix --select PB303)" in remedy(**changes).advice
    assert by_fix is (safety is not Safety.MANUAL)


def test_the_rest_of_a_packed_bias_counts():
    assert "Set the key rows" in found(proof())[0].remedy.advice
