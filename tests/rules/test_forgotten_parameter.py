from copy import deepcopy

import pytest
import torch
from torch import nn

import plumbob
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


@pytest.mark.parametrize("layers", [1, 2])
def test_an_optimiser_of_another_instance(layers):
    """Even where only the model's vectors are trainable, which is info otherwise."""
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(layers)))
    if layers == 1:
        model[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(deepcopy(model).parameters(), lr=0.1)
    found = plumbob.check(model, optimizer=optimizer, select="PB502").findings
    assert [f.severity for f in found] == [Severity.WARNING]
    assert f"but {2 * layers} of something else" in found[0].cause
    assert "Make the optimiser from" in found[0].remedy.advice


def test_random_features_are_no_backbone():
    assert severity(ALL[:2], stage=Stage.INIT) == [(Severity.WARNING, "a")]
    assert severity(ALL[:2], stage=Stage.TRAINED) == [(Severity.INFO, "a")]


def test_frozen_and_unreached_parameters_need_no_optimiser():
    assert severity(ALL[4:], frozen=ALL[4:]) == []
    assert severity(ALL[4:], unreached=ALL[4:]) == []
