"""Intervals and verdicts against SciPy, and their error rates on what is known."""

import numpy as np
import pytest
from scipy import stats

from plumbob.trials.compare import change as change_of
from plumbob.trials.compare import compare, fisher, student
from plumbob.trials.record import Run


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 8, 9, 30, 101])
@pytest.mark.parametrize("p", [0.6, 0.95, 0.9875, 0.9999])
def test_student_agrees_with_scipy(p, degrees):
    assert student(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-9)


@pytest.mark.parametrize(("p", "degrees"), [(0.5, 3), (1.0, 3), (0.9, 0)])
def test_student_refuses_what_has_no_quantile(p, degrees):
    with pytest.raises(ValueError, match="expected 1/2 < p < 1"):
        student(p, degrees)


def test_interval_is_that_of_the_paired_t_test():
    a, b = np.random.default_rng(0).normal(size=(2, 6))
    found = change_of(list(a - b), 0.975)
    low, high = stats.ttest_rel(a, b).confidence_interval(0.975)
    assert [found.low, found.high] == pytest.approx([low, high], rel=1e-9)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (5, 0), (1, 4), (3, 3), (2, 5)])
def test_fisher_agrees_with_scipy(a, b):
    expected = stats.fisher_exact([[a, 5 - a], [b, 5 - b]]).pvalue
    assert fisher(a, b, 5) == pytest.approx(expected)


def runs(arm, curves, diverged=()):
    return [
        Run(
            arm=arm,
            seed=seed,
            curve=tuple((10 * i, float(loss), None) for i, loss in enumerate(curve)),
            diverged=7 if seed in diverged else None,
        )
        for seed, curve in enumerate(curves)
    ]


def fall(start, end, points=5):
    return np.linspace(start, end, points)


def verdict(arm, base, **options):
    options = {"alpha": 0.05, "every": 10} | options
    return compare(arm, base, **options)


BASE = [fall(2 + s / 10, 1 + s / 10) for s in range(5)]


def test_a_lower_loss_helps_and_a_higher_one_hurts():
    base = runs("as it is", BASE)
    better = runs("x", [c - fall(0, 0.5 + i / 100) for i, c in enumerate(BASE)])
    assert verdict(better, base).verdict == "helps"
    assert verdict(base, better).verdict == "hurts"
    found = verdict(better, base)
    assert found.loss.mean == pytest.approx(-0.52)
    # 2 + s/10 falls by 1 in 4 points, or by 1.5 + s/100: the level is as-is's last
    assert found.steps.mean == -10


@pytest.mark.parametrize("off", [0, 1e-5])
def test_identical_runs_and_rounding_are_no_difference(off):
    base = runs("as it is", BASE)
    arm = runs("x", np.array(BASE) + off)
    assert verdict(arm, base).verdict == "no difference seen"


def test_steps_alone_can_tell_and_the_loss_decides_where_both_do():
    base = runs("as it is", [[3, 2.9, 2.8, 2.7 + s / 99, 1] for s in range(5)])
    sooner = runs("x", [[3, 1, 1 + s / 99, 1, 1] for s in range(5)])
    assert verdict(sooner, base).verdict == "helps"
    assert verdict(base, sooner).verdict == "hurts"
    worse = runs("x", [[3, 1, 1, 1, 2 + s / 99] for s in range(5)])
    found = verdict(worse, base, level=1.5)
    assert found.steps.high < 0 < found.loss.low
    assert found.verdict == "hurts"


def test_a_level_that_is_missed_is_censored_and_said():
    base = runs("as it is", [[3, 2, 1 + s / 99] for s in range(3)])
    never = runs("x", [[3, 3, 3]] * 3)
    found = verdict(never, base, level=2.0)
    assert (found.steps.mean, found.censored) == (30 - 10, 3)


def test_one_level_is_reached_by_all_runs_of_both():
    base = runs("as it is", [[3, 1.5, 1 + s / 99] for s in range(3)])
    poor = runs("x", [[3, 2.5, 2], [3, 1.5, 1], [3, 1.5, 1]])
    found = verdict(poor, base)
    assert (found.steps.mean, found.censored) == (10 / 3, 0)


def test_two_seeds_are_too_few():
    base = runs("as it is", BASE[:2])
    arm = runs("x", np.array(BASE[:2]) - 1)
    assert verdict(arm, base).verdict == "too few seeds"


def test_seeds_that_change_nothing_are_no_evidence():
    base, arm = runs("as it is", [[2, 1]] * 5), runs("x", [[2, 0.5]] * 5)
    assert verdict(arm, base).verdict == "the seeds change nothing"


def test_divergence_counts_and_poisons_no_mean():
    base, every = runs("as it is", BASE), range(5)
    found = verdict(runs("x", BASE, diverged=every), base)
    assert (found.verdict, found.diverged) == ("hurts", 5)
    assert verdict(base, runs("x", BASE, diverged=every)).verdict == "helps"
    few = verdict(runs("x", BASE[:3], diverged=range(3)), runs("as it is", BASE[:3]))
    assert few.verdict == "too few seeds"  # fisher(3, 0, 3) is 0.1
    two = verdict(runs("x", np.array(BASE) - 0.5, diverged=[1, 2]), base)
    assert two.verdict == "no difference seen"
    assert two.loss.mean == pytest.approx(-0.5)


def test_claims_are_false_in_no_more_cases_than_chosen():
    """Curves that differ by chance alone: in the end, and on the way."""
    random = np.random.default_rng(0)
    trend = fall(2, 1, 20)

    def curves():
        ends = 1 + 0.1 * random.normal(size=(5, 1))
        return trend * ends + 0.02 * random.normal(size=(5, 20))

    found = [
        verdict(runs("x", curves()), runs("y", curves())).verdict for _ in range(1000)
    ]
    claimed = sum(one in {"helps", "hurts"} for one in found)
    assert claimed <= stats.binom.ppf(0.999, 1000, 0.05)
    assert claimed >= 10  # or the test could not fail
    helps = found.count("helps")
    assert abs(helps - claimed / 2) < 4 * np.sqrt(claimed / 4)


def overfitted(random, lowest):
    """Parabolas: the lowest loss is where the curve turns, after 10 of 20 points."""
    centre = random.normal(10, 0.5, size=(len(lowest), 1))
    return lowest + 0.01 * (np.arange(21) - centre) ** 2


def levelled(random, lowest):
    """Falls to a plateau."""
    return lowest + np.exp(-np.arange(21) / 3)


@pytest.mark.parametrize("seeds", [3, 4, 5])
@pytest.mark.parametrize("shape", [overfitted, levelled])
def test_steps_are_claimed_no_more_often_than_chosen(shape, seeds):
    """Curves that turn or level off, at heights that chance alone decides."""
    random = np.random.default_rng(0)

    def curves():
        curve = shape(random, 1 + 0.1 * random.normal(size=(seeds, 1)))
        return curve + 0.005 * random.normal(size=curve.shape)

    found = [verdict(runs("x", curves()), runs("y", curves())) for _ in range(400)]
    steps = sum(one.steps.sign(10) != 0 for one in found)
    claimed = sum(one.verdict in {"helps", "hurts"} for one in found)
    assert steps <= stats.binom.ppf(0.999, 400, 0.025)
    assert claimed <= stats.binom.ppf(0.999, 400, 0.05)
