import pytest

from plumbob.rule import findings
from plumbob.rules.decayed_bias import decayed_bias
from plumbob.types import Group, Needs, Optimizer, Site, Survey


def survey(*groups):
    sites = (
        Site(name="fc", kind="linear", out=2, fan_in=2, weight="fc.w", bias="fc.b"),
        Site(name="norm", kind="norm", out=2, fan_in=1, weight="norm.w", bias="norm.b"),
    )
    held = tuple(
        Group(parameters=tuple(names), lr=0.1, weight_decay=decay)
        for decay, *names in groups
    )
    return Survey(
        sites=sites,
        known=Needs.OPTIMIZER,
        optimizer=Optimizer(name="AdamW", steps=0, groups=held),
    )


@pytest.mark.parametrize(
    ("groups", "counts"),
    [
        ([(0.01, "fc.w", "fc.b", "norm.w", "norm.b")], (2, 1, 1)),
        ([(0.01, "fc.w"), (0.0, "fc.b", "norm.w", "norm.b")], None),
        ([(0.0, "fc.w", "fc.b")], None),
        ([(0.01, "fc.w", "?"), (0.1, "norm.w")], (0, 1, 1)),
        ([(0.01, "fc.b"), (0.1, "norm.b")], (2, 0, 2)),
    ],
)
def test_what_counts(groups, counts):
    found = list(findings(decayed_bias, survey(*groups)))
    assert [
        (f.evidence["biases"], f.evidence["scales"], f.evidence["groups"])
        for f in found
    ] == ([] if counts is None else [counts])


ALL = ("fc.w", "fc.b", "norm.w", "norm.b")


@pytest.mark.parametrize(
    ("groups", "message", "cause", "advice"),
    [
        (
            [(0.01, "fc.b"), (0.1, "norm.w")],
            "weight decay of 0.1 pulls 1 bias and 1 norm scale to 0",
            "groups of their own have a decay as well",
            "Set weight_decay=0 in these groups.",
        ),
        (
            [(0.01, "fc.w"), (0.01, "fc.b", "norm.b")],
            "weight decay of 0.01 pulls 2 biases to 0",
            "a group of their own has a decay as well",
            "Set weight_decay=0 in this group.",
        ),
        (
            [(0.01, *ALL)],
            "weight decay of 0.01 pulls 2 biases and 1 norm scale to 0",
            "the optimiser holds them together with the weights",
            "a group of its own",
        ),
        (
            [(0.01, "fc.w", "norm.w"), (0.01, "fc.b"), (0.01, "norm.b")],
            "weight decay of 0.01 pulls 2 biases and 1 norm scale to 0",
            "1 of their 3 groups holds the weights too",
            "a group of its own",
        ),
    ],
)
def test_what_is_said_is_true(groups, message, cause, advice):
    (found,) = findings(decayed_bias, survey(*groups))
    assert found.message == message
    assert cause in found.cause
    assert advice in found.remedy.advice
