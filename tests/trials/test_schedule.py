"""What is started in the time there is, and what is complete at the end."""

from time import monotonic

import pytest

from plumbob.trials.record import Run
from plumbob.trials.run import Plan
from plumbob.trials.schedule import carry_out

PLAN = Plan(
    build=None,
    data=None,
    loss=None,
    optimizer=None,
    arms={"as it is": print, "x": print},
)


def pretend(plan, jobs):
    """Yield runs that claim to have taken ten seconds each."""
    for arm, seed in jobs:
        yield Run(arm=arm, seed=seed, curve=((0, 1.0, None),), seconds=10.0)


def carry(spread=pretend, *, seconds=None, at_once=1, tell=lambda line: None):
    until = None if seconds is None else monotonic() + seconds
    return carry_out(PLAN, spread, seeds=3, at_once=at_once, until=until, tell=tell)


def test_all_runs_seed_by_seed():
    runs, stopped = carry()
    assert [(run.arm, run.seed) for run in runs] == [
        (arm, seed) for seed in range(3) for arm in ("as it is", "x")
    ]
    assert stopped is None


@pytest.mark.parametrize(
    ("seconds", "at_once", "seeds"), [(15.0, 1, 1), (25.0, 1, 3), (15.0, 2, 3)]
)
def test_a_seed_is_begun_only_where_all_its_runs_fit(seconds, at_once, seeds):
    runs, stopped = carry(seconds=seconds, at_once=at_once)
    assert len(runs) == 2 * seeds
    if seeds < 3:
        assert stopped == (
            "Stopped early (the time is up): 1 of 3 seeds are complete. "
            "A run takes 10 s."
        )


def test_runs_come_in_any_order_and_a_half_seed_is_left_out():
    def backwards(plan, jobs):
        *most, _ = reversed(list(pretend(plan, jobs)))
        yield from most
        raise KeyboardInterrupt

    runs, stopped = carry(backwards)
    assert [(run.arm, run.seed) for run in runs] == [
        (arm, seed) for seed in (1, 2) for arm in ("as it is", "x")
    ]
    assert stopped.startswith("Stopped early (interrupted): 2 of 3 seeds")
