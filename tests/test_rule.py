"""Templates over evidence, and what several rules say alike."""

import pytest

from plumbob.rule import findings, modules, proved, rule
from plumbob.types import (
    Census,
    Finding,
    Needs,
    Proof,
    Remedy,
    Severity,
    Survey,
)

EMPTY = Survey(sites=(), known=Needs.WEIGHTS)


def told(template, **evidence):
    @rule("XX001", "told", Needs.WEIGHTS, Severity.INFO, since="0")
    def judge(survey):
        yield Finding(
            message=template,
            cause=template,
            evidence=evidence,
            remedy=Remedy(advice=template),
        )

    (found,) = findings(judge, EMPTY)
    assert found.message == found.cause == found.remedy.advice
    return found.message


@pytest.mark.parametrize(
    ("n", "text"),
    [(1, "1 unit is dead"), (2, "2 units are dead"), (0, "0 units are dead")],
)
def test_the_word_goes_with_the_number(n, text):
    assert told("{n} {n:unit|units} {n:is|are} dead", n=n) == text


def test_numbers_have_four_digits_unless_a_form_is_given():
    assert told("{a} {b} {a:.1f}", a=0.123456, b=12345.0) == "0.1235 12,345 0.1"


def test_modules_are_named_once_and_not_all():
    names = [f"layers.{i}.{kind}" for i in range(6) for kind in ("weight", "bias")]
    assert modules(names[:2]) == "layers.0"
    assert modules(names) == "layers.0, layers.1, layers.2, layers.3 and 2 more"
    assert told(modules(["a{0}.weight", "scale"])) == "a{0}, scale"


def test_the_numbers_of_proofs():
    def proof(rows, error):
        return Proof(
            parameter="b",
            rows=rows,
            by="batch-norm",
            training="null",
            inference="gauge",
            steps=(),
            error=error,
        )

    known = Survey(
        sites=(),
        known=Needs.WEIGHTS,
        tensors={"b": Census(shape=(8,), dtype="F32", count=8, low=-3.0, high=2.0)},
    )
    both = [proof((0, 2), 1e-9), proof((4, 8), 1e-8)]
    assert proved(known, both) == {"elements": 6, "largest": 3, "error": 1e-8}
    assert proved(EMPTY, [proof((0, 2), None), both[1]]) == {"elements": 6}
