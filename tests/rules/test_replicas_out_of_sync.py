from math import nan

import pytest

from past_by_hand import said, survey
from plumbob.rules.replicas_out_of_sync import replicas_out_of_sync


@pytest.mark.parametrize(
    ("apart", "fires"),
    [(0.0, False), (9e-6, False), (1.1e-5, True), (0.3, True), (nan, True)],
)
def test_what_rounding_does_not_explain(apart, fires):
    found = said(replicas_out_of_sync, survey(apart={"fc.weight": apart}))
    assert [severity for severity, _ in found] == ["ERROR"] * fires


def test_one_finding_names_all():
    apart = {"a.weight": 0.1, "b.weight": 0.2, "c.weight": 0.0}
    ((_, message),) = said(replicas_out_of_sync, survey(apart=apart))
    assert "2 parameters, up to 0.2 of their size apart: a, b" in message


def test_one_rank_says_nothing():
    assert said(replicas_out_of_sync, survey()) == []
