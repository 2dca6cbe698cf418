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


def test_the_largest_decay_is_told():
    (found,) = findings(decayed_bias, survey((0.01, "fc.b"), (0.1, "norm.w")))
    assert found.message == "weight decay of 0.1 pulls 1 biases and 1 norm scales to 0"
