"""What a verdict of `trial` is worth; in full: benchmarks/trial.py."""

from collections import Counter
from functools import partial

import pytest
from scipy.stats import binom

import plumbob
from tried import HEALTHY, LEANING, healthy, null

SMALL = {"steps": 40, "seeds": 3}
FAST = ("MLP tanh, saturated", "MLP, first layer forgotten")
REPEATS, ALPHA = 10, 0.05


def whole(data):
    """Return what a loader loads as a single batch."""
    return data().dataset.tensors


def settings(case):
    data = partial(whole, partial(case.data, samples=500))
    return case.settings() | SMALL | {"data": data}


@pytest.mark.parametrize("name", FAST)
def test_the_right_remedy_helps_and_no_wrong_one_does(name):
    case = LEANING[name]
    (right,) = plumbob.trial(**settings(case), remedies=[case.code]).comparisons
    assert right.arm.startswith(case.code)
    assert right.verdict == "helps"
    assert right.loss.high < 0
    others = plumbob.trial(**settings(case), remedies=case.wrong).comparisons
    assert len(others) == len(case.wrong) + 1
    assert "helps" not in {found.verdict for found in others}


def test_claims_on_healthy_nets_are_false_no_more_often_than_chosen():
    """A layer drawn anew by the same law neither helps nor hurts on average."""
    found = Counter()
    nets = [name for name in HEALTHY if name.startswith(("MLP", "LSTM", "CNN"))]
    for name in nets:
        for number in range(REPEATS):
            given = healthy(name, number)
            given |= {"data": partial(whole, given["data"]), "steps": 6}
            (one,) = plumbob.trial(
                **given, alpha=ALPHA, remedies=null(name, number)
            ).comparisons
            assert one.loss.mean  # or it was no other layer
            found[one.verdict] += 1
    assert found.total() == len(nets) * REPEATS == 40
    assert found["helps"] <= binom.ppf(0.999, 40, ALPHA / 2)
    assert found["helps"] + found["hurts"] <= binom.ppf(0.999, 40, ALPHA)


def test_two_processes_mend_a_leaning_net_as_one_does():
    case = LEANING[FAST[1]]
    given = settings(case) | {"steps": 4, "seeds": 1, "remedies": [case.code]}
    one, two = (plumbob.trial(**given, processes=count) for count in (1, 2))
    assert one.comparisons[0].did == (("add-parameters", 1.0),)
    assert two.to_dict() == one.to_dict()
    assert str(two) == str(one)
