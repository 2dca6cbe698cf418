"""Which run is next, whether there is time for it, and what is complete at the end."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from math import ceil
from time import monotonic

from plumbob.trials.pairing import check_paired
from plumbob.trials.record import Run
from plumbob.trials.run import Plan

INTERRUPTED = "interrupted"
Job = tuple[str, int]  # arm, seed
# Takes jobs from the iterator when there is room, and yields their runs in any order.
Spread = Callable[[Plan, Iterable[Job]], Iterator[Run]]


def carry_out(
    plan: Plan,
    spread: Spread,
    *,
    seeds: int,
    at_once: int,
    until: float | None,
    tell: Callable[[str], None],
) -> tuple[tuple[Run, ...], str | None]:
    """Return the runs of all seeds that are complete, and why others are missing.

    Args:
        plan: what the runs share; its arms are all run from each seed.
        spread: what carries the jobs out.
        seeds: 0, 1, ... up to this number, one after the other.
        at_once: how many runs there are at a time.
        until: the reading of the monotonic clock, in seconds, at which to be done.
        tell: called with a line after each run.

    Raises:
        InputError: the runs of a seed were not given the same, or a run failed.
    """
    began, runs, stopped = monotonic(), list[Run](), list[str]()
    jobs = [(arm, seed) for seed in range(seeds) for arm in plan.arms]

    def in_time() -> Iterator[Job]:
        for number, job in enumerate(jobs):
            left = len(plan.arms) - number % len(plan.arms)  # of this seed
            longest = max((run.seconds for run in runs), default=0.0)
            ends = monotonic() + longest * ceil(left / at_once)
            if until is not None and ends > until:
                stopped.append("the time is up")
                return
            yield job

    try:
        with closing(spread(plan, in_time())) as done:  # pyright: ignore[reportArgumentType]
            for run in done:
                check_paired(run, runs)
                runs.append(run)
                eta = (monotonic() - began) * (len(jobs) / len(runs) - 1)
                tell(
                    f"run {len(runs)} of {len(jobs)}: {run.arm}, seed {run.seed + 1} "
                    f"of {seeds}, {_duration(eta)} left"
                )
    except KeyboardInterrupt:
        stopped.append(INTERRUPTED)
    have = {(run.arm, run.seed): run for run in runs}
    whole = [s for s in range(seeds) if all((arm, s) in have for arm in plan.arms)]
    kept = tuple(have[arm, seed] for seed in whole for arm in plan.arms)
    if not stopped:
        return kept, None
    text = f"Stopped early ({stopped[-1]}): {len(whole)} of {seeds} seeds are complete."
    if runs:
        text += f" A run takes {_duration(max(run.seconds for run in runs))}."
    return kept, text


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
