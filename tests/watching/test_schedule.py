from itertools import pairwise

from plumbob.types import Log
from plumbob.watching.schedule import Schedule


def judged(cost, every=50, steps=4000, pace=0.01):
    """Return the steps at which a run of so many seconds a step is judged."""
    schedule, found = Schedule(), []
    for step in [*range(5), *range(every, steps, every)]:
        log = Log(step=step, seconds=step * pace)
        if schedule.due(log):
            found.append(step)
            schedule.took(log, cost)
    return found


def test_a_run_is_judged_where_it_has_grown_by_half():
    found = judged(cost=0.0)
    assert found == [0, 1, 3, 50, 100, 200, 350, 550, 850, 1300, 2000, 3050]


def test_after_the_first_times_judging_takes_a_hundredth_of_the_time():
    found = judged(cost=0.1)
    assert found[:5] == [0, 1, 3, 50, 100]
    gaps = [b - a for a, b in pairwise(found[4:])]
    assert gaps == [1000, 1000, 1100]  # 10 seconds are 100 times a judgement's 0.1


def test_what_is_taken_early_is_judged_three_times_between():
    schedule = Schedule()
    assert schedule.due(Log(step=0))
    schedule.next = 1000
    early = [schedule.due(Log(step=s, why="loss")) for s in range(10, 15)]
    assert early == [True, True, True, False, False]
    assert schedule.due(Log(step=1000))
    assert schedule.due(Log(step=1001, why="gradient"))


def test_parameters_are_weighed_more_and_more_rarely():
    schedule = Schedule()
    weighed = [step for step in range(100) if schedule.weighs(step)]
    assert weighed == [0, 4, 20, 84]
