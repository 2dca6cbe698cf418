from dataclasses import replace

import numpy as np
import pytest

from hand import moments
from plumbob.rule import findings
from plumbob.rules.disconnected_parameter import disconnected_parameter
from plumbob.types import Feed, Gradient, Needs, Reading, Severity, Site, Survey


def survey(lost, ran=("a", "b", "c")):
    """a feeds b, b feeds c; a also feeds a side branch called pooler."""
    feeds = {"a": ("b", "pooler"), "b": ("c",), "c": (), "pooler": ()}
    reading = Reading(z=moments(np.ones((4, 2))))
    return Survey(
        sites=tuple(
            Site(
                name=n,
                kind="linear",
                out=2,
                fan_in=2,
                weight=f"{n}.weight",
                feeds=tuple(Feed(site=f) for f in to),
            )
            for n, to in feeds.items()
        ),
        known=Needs.GRADIENTS,
        gradients={f"{n}.weight": Gradient(reached=n not in lost) for n in feeds},
        readings=dict.fromkeys((*ran, "pooler"), reading),
    )


def severities(lost, **how):
    found = findings(disconnected_parameter, survey(lost, **how))
    return [(f.severity, f.site) for f in found]


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        ((), []),
        (("pooler",), [(Severity.INFO, "pooler")]),
        (("a",), [(Severity.WARNING, "a")]),
        (("a", "b"), [(Severity.WARNING, "b")]),
        (("a", "pooler"), [(Severity.WARNING, "a"), (Severity.INFO, "pooler")]),
        (("a", "b", "c", "pooler"), [(Severity.ERROR, "pooler")]),
        (("c",), [(Severity.INFO, "c")]),
    ],
)
def test_cut_unused_or_everything(lost, expected):
    assert severities(lost) == expected


def test_what_did_not_run_is_unused_rather_than_cut():
    assert severities(("b",), ran=("a", "c")) == [(Severity.INFO, "b")]


def test_a_zero_gradient_has_a_path():
    silent = Survey(
        sites=(),
        known=Needs.GRADIENTS,
        gradients={"gate": Gradient(reached=True, norm=0.0)},
    )
    assert not list(findings(disconnected_parameter, silent))


def test_only_four_modules_are_listed():
    lost = {f"{n}.weight": Gradient(reached=False) for n in "abcdef"}
    many = Survey(
        sites=(),
        known=Needs.GRADIENTS,
        gradients=lost | {"x": Gradient(reached=True)},
    )
    (found,) = findings(disconnected_parameter, many)
    assert found.message == (
        "6 of 7 trainable parameters have no path to the loss: a, b, c, d and 2 more"
    )


def test_a_path_that_leaves_torch_is_cut():
    """`c` learns but nothing leads from the input to it: a went through numpy."""
    whole = survey(("a", "b"))
    alone = {"a": ("b",), "b": (), "c": (), "pooler": ()}
    sites = tuple(
        replace(s, feeds=tuple(Feed(site=f) for f in alone[s.name]))
        for s in whole.sites
        if s.name != "pooler"
    )
    cut = replace(whole, sites=(replace(sites[0], reads_input=True), *sites[1:]))
    (found,) = findings(disconnected_parameter, cut)
    assert (found.severity, found.site) == (Severity.WARNING, "b")
