import pytest

from plumbob.rule import findings
from plumbob.rules.forgotten_parameter import forgotten_parameter
from plumbob.types import (
    Census,
    Gradient,
    Group,
    Needs,
    Optimizer,
    Severity,
    Site,
    Stage,
    Survey,
)

ALL = [f"{n}.{kind}" for n in "abc" for kind in ("weight", "bias")]


def severity(lost, stage=Stage.UNKNOWN, frozen=(), unreached=()):
    survey = Survey(
        sites=tuple(
            Site(
                name=n,
                kind="linear",
                out=2,
                fan_in=2,
                weight=f"{n}.weight",
                bias=f"{n}.bias",
                stage=stage,
            )
            for n in "abc"
        ),
        known=Needs.OPTIMIZER,
        tensors={
            name: Census(
                shape=(4,) if "bias" in name else (2, 2),
                dtype="F32",
                count=4,
                trainable=name not in frozen,
            )
            for name in ALL
        },
        gradients={
            name: Gradient(reached=name not in unreached)
            for name in ALL
            if name not in frozen
        },
        optimizer=Optimizer(
            name="SGD",
            steps=0,
            groups=(Group(parameters=tuple(set(ALL) - set(lost)), lr=0.1),),
        ),
    )
    return [(f.severity, f.site) for f in findings(forgotten_parameter, survey)]


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ([], []),
        (["a.weight", "a.bias"], [(Severity.INFO, "a")]),  # a feature extractor
        (ALL[:4], [(Severity.INFO, "b")]),
        (ALL[2:4], [(Severity.WARNING, "b")]),  # in between
        (ALL[4:], [(Severity.WARNING, "c")]),  # a head
        (["b.bias", "c.bias"], [(Severity.INFO, "c")]),  # vectors only
        (["b.weight"], [(Severity.WARNING, "b")]),  # half a map
        (ALL, [(Severity.WARNING, "c")]),  # an optimiser of something else
    ],
)
def test_a_backbone_left_out_is_milder_than_a_hole(lost, expected):
    assert severity(lost) == expected


def test_random_features_are_no_backbone():
    assert severity(ALL[:2], stage=Stage.INIT) == [(Severity.WARNING, "a")]
    assert severity(ALL[:2], stage=Stage.TRAINED) == [(Severity.INFO, "a")]


def test_frozen_and_unreached_parameters_need_no_optimiser():
    assert severity(ALL[4:], frozen=ALL[4:]) == []
    assert severity(ALL[4:], unreached=ALL[4:]) == []
