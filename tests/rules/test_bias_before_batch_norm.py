import pytest

from plumbob.rule import findings
from plumbob.rules.bias_before_batch_norm import bias_before_batch_norm
from plumbob.types import Census, Needs, Proof, Safety, Severity, Site, Survey


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


def followed(*, norms=1, running=True, **changes):
    """Return the remedy for a convolution with norms behind it."""
    conv = {"out": 4, "fan_in": 9, "weight": "conv.weight", "bias": "conv.bias"}
    norm = {"kind": "norm", "out": 4, "fan_in": 1, "fed_by": ("conv",)}
    sites = [Site(name="conv", kind="conv", norm="batch-norm", **conv)]
    sites += [Site(name=f"n{i}", weight=f"n{i}.weight", **norm) for i in range(norms)]
    names = ["conv.bias", *(["n0.running_mean"] if running else [])]
    survey = Survey(
        sites=tuple(sites),
        known=Needs.GRAPH,
        proofs=(proof(**changes),),
        tensors={n: Census(shape=(4,), dtype="float32", count=4) for n in names},
    )
    return next(iter(findings(bias_before_batch_norm, survey))).remedy


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, {"norm": "n0"}),
        ({"inference": "null"}, {}),
        ({"inference": "null", "norms": 0, "running": False}, {}),
        ({"inference": None}, None),
        ({"on_this_path": True}, None),
        ({"norms": 2}, None),
        ({"running": False}, None),
        ({"rows": (0, 2)}, None),
    ],
)
def test_followed_only_where_what_inference_keeps_has_one_place(changes, arguments):
    remedy = followed(**changes)
    if arguments is None:
        unknown = changes.keys() & {"inference", "on_this_path"}
        safety = Safety.MANUAL if unknown else Safety.EVAL_ONLY
        assert (remedy.act, remedy.safety) == (None, safety)
    else:
        assert (remedy.act, remedy.safety) == ("drop-null-bias", Safety.EXACT)
        assert remedy.arguments == {"parameter": "conv.bias"} | arguments
