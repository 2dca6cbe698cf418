"""Selection, missing facts, crashes, and roots before consequences."""

from dataclasses import replace

import pytest

from plumbob.judge import judge, key
from plumbob.rule import findings, limits, rule, sections
from plumbob.settings import Settings
from plumbob.types import Feed, Finding, Needs, Remedy, Severity, Site, Survey


def site(name, *feeds):
    return Site(
        name=name,
        kind="linear",
        out=1,
        fan_in=1,
        weight=f"{name}.weight",
        feeds=tuple(Feed(site=f) for f in feeds),
    )


SURVEY = Survey(
    sites=(site("a", "b"), site("b", "c"), site("c"), site("apart")),
    known=Needs.WEIGHTS,
    unseen={"graph": "no data given"},
)


def made(code, *places, severity=Severity.WARNING, needs=Needs.WEIGHTS, **options):
    """Return a rule that finds something at each place."""
    own_cause = options.pop("own_cause", False)

    @rule(code, f"name-{code.lower()}", needs, severity, since="0.1", **options)
    def found(survey, *, limit=1.5):
        for place in places:
            yield Finding(
                site=place,
                message="{x} and {share:.0%} above {limit}",
                cause="x is {x}",
                evidence={"x": 1234.5678, "share": 0.25, "limit": limit},
                remedy=Remedy(advice="Halve {x}."),
                own_cause=own_cause,
            )

    return found


def test_numbers_are_filled_in_from_the_evidence():
    (finding,) = findings(made("PB901", "a"), SURVEY, limit=3.0)
    assert finding.message == "1235 and 25% above 3"
    assert finding.remedy.advice == "Halve 1235."
    assert (finding.code, finding.name) == ("PB901", "name-pb901")
    assert finding.severity is Severity.WARNING
    assert limits(made("PB901")) == {"limit": 1.5}


@pytest.mark.parametrize(
    ("select", "judged"),
    [
        (None, False),
        (("PB",), False),
        (("PB90",), False),
        (("PB901",), True),
        (("pb901",), True),
        (("name-pb901",), True),
        (("PB", "PB901"), True),
    ],
)
def test_a_rule_on_request_is_to_be_named_in_full(select, judged):
    dear, missing = Needs.OVERFIT, {"PB901": "needs overfit"}
    verdict = judge(
        SURVEY,
        [made("PB901", "a", opt_in=True, needs=dear)],
        Settings(select=select),
    )
    left = {code: why for code, why in verdict.not_judged.items() if code == "PB901"}
    assert left == (missing if judged else {})


def test_no_finding_is_worse_than_its_rule():
    @rule("PB902", "n", Needs.WEIGHTS, Severity.INFO, since="0.1")
    def judge_(survey):
        remedy = Remedy(advice="")
        yield Finding(
            message="",
            cause="",
            evidence={},
            remedy=remedy,
            severity=Severity.ERROR,
        )

    assert judge(SURVEY, [judge_], Settings()).crashed["PB902"].startswith("ValueError")


def test_missing_facts_and_crashes_cost_nothing_else():
    @rule("PB903", "n", Needs.WEIGHTS, Severity.INFO, since="0.1")
    def broken(survey):
        raise KeyError("lost")
        yield

    rules = [made("PB901", "a", needs=Needs.GRAPH), broken, made("PB904", "b")]
    verdict = judge(SURVEY, rules, Settings())
    assert verdict.not_judged == {"PB901": "needs graph (no data given)"}
    assert verdict.crashed == {"PB903": "KeyError: 'lost'"}
    assert [f.code for f in verdict.findings] == ["PB904"]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"select": ("PB91",)}, ["PB911", "PB912"]),
        ({"select": ("name-pb921",)}, ["PB921"]),
        ({"ignore": ("PB9",)}, []),
        ({"per_site": {"a*": ("PB911",)}}, ["PB912", "PB921"]),
        ({"per_site": {"a": ("pb91",)}}, ["PB921"]),
        ({"baseline": frozenset({"PB912 a"})}, ["PB911", "PB921"]),
    ],
)
def test_selection(options, left):
    rules = [made(code, "a") for code in ("PB911", "PB912", "PB921")]
    found = judge(SURVEY, rules, Settings(**options)).findings
    assert [f.code for f in found] == left


@pytest.mark.parametrize(
    ("glob", "left"), [("a", []), ("a.weight", []), ("b", ["PB911"])]
)
def test_a_parameter_is_ignored_with_its_site(glob, left):
    settings = Settings(per_site={glob: ("PB911",)})
    found = judge(SURVEY, [made("PB911", "a.weight")], settings).findings
    assert [f.code for f in found] == left


def folded(*rules):
    found = judge(SURVEY, rules, Settings()).findings
    return {key(f): [key(c) for c in f.consequences] for f in found}


def test_consequences_lie_at_the_same_place_or_downstream():
    root = made("PB901", "b", explains=("PB902",))
    assert folded(root, made("PB902", "a", "b", "c", "apart")) == {
        "PB902 a": [],
        "PB901 b": ["PB902 b", "PB902 c"],
        "PB902 apart": [],
    }


def test_a_norm_lies_downstream_of_what_feeds_it():
    norm = replace(site("n", "b"), kind="norm", fed_by=("a",))
    survey = replace(SURVEY, sites=(*SURVEY.sites, norm))
    rules = [made("PB901", "a", explains=("PB902",)), made("PB902", "n")]
    (root,) = judge(survey, rules, Settings()).findings
    assert [key(c) for c in root.consequences] == ["PB902 n"]


def test_a_root_is_found_through_a_chain_and_by_a_parameters_name():
    rules = [
        made("PB901", "a.weight", explains=("PB902",)),
        made("PB902", "b", explains=("PB903",)),
        made("PB903", "c"),
    ]
    assert folded(*rules) == {"PB901 a.weight": ["PB902 b", "PB903 c"]}


def test_a_milder_finding_explains_nothing_worse():
    root = made("PB901", "a", severity=Severity.INFO, explains=("PB902",))
    assert folded(root, made("PB902", "b")) == {"PB902 b": [], "PB901 a": []}


def test_what_has_its_own_cause_is_a_root():
    root = made("PB901", "a", explains=("PB902",))
    assert folded(root, made("PB902", "b", own_cause=True)) == {
        "PB901 a": [],
        "PB902 b": [],
    }


def test_worst_first_then_in_the_order_of_the_network():
    mild = made("PB901", "a", severity=Severity.INFO)
    bad = made("PB902", "c", severity=Severity.ERROR)
    assert list(folded(mild, bad, made("PB903", "c", "b"))) == [
        "PB902 c",
        "PB903 b",
        "PB903 c",
        "PB901 a",
    ]


def test_sections_of_a_docstring():
    text = "One.\n\nMore.\n\nWhy:\n    Because:\n    x = 1\n\nReferences:\n    A."
    assert sections(text) == {
        "": "One.\n\nMore.",
        "Why": "Because:\nx = 1",
        "References": "A.",
    }
