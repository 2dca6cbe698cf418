"""The laws that every rule and every rewrite keeps, for those of your own too.

from plumbob.testing import check_rewrite, check_rule, check_watched_rule

def test_my_rule():
    check_rule(my_rule, leans={"model": bad, "data": x}, plumb={"model": good})

def test_my_rule_of_a_run():
    check_watched_rule(other_rule, leans=bad_run, plumb=good_run)  # closed watches

def test_my_rewrite():
    check_rewrite(my_act, {"site": "fc1"}, model=model, data=x, writes="fc1.bias")
"""

from plumbob.testing.cards import card
from plumbob.testing.rewrites import check_rewrite
from plumbob.testing.rules import check_rule
from plumbob.testing.watched import check_watched_rule

__all__ = ["card", "check_rewrite", "check_rule", "check_watched_rule"]
