"""Runs one after the other here, or several at once in processes of their own."""

import multiprocessing
import pickle
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any

from plumbob.errors import InputError, one_line
from plumbob.trials.record import Run
from plumbob.trials.run import Plan, run
from plumbob.trials.schedule import Job

_PLAN: list[Plan] = []  # of this worker; sent once, since it may hold the data


def here(plan: Plan, jobs: Iterable[Job]) -> Iterator[Run]:
    """Yield each job's run; jobs are taken when there is time for them."""
    for job in jobs:
        yield run(plan, *job)


def over_processes(plan: Plan, jobs: Iterable[Job], processes: int) -> Iterator[Run]:
    """Yield the same runs from processes that are spawned for them.

    Raises:
        InputError: the plan cannot be sent to them, one of them ended, or a run failed.
    """
    waiting = iter(jobs)
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(packed(plan),),
    )
    running: set[Future[Run]] = set()
    try:
        while True:
            room = processes - len(running)
            running |= {pool.submit(_work, *job) for job in islice(waiting, room)}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a process of the trial ended before its run did: it was killed (memory?), "
            "or the script that calls trial lacks: if __name__ == '__main__':"
        ) from error
    finally:
        if running:  # stopped on the way; first, since Ctrl-C may come twice
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
        pool.shutdown(cancel_futures=True)


def packed(plan: Plan) -> bytes:
    """Pickle the plan.

    Raises:
        InputError: a part of it exists in this process only.
    """
    to_do = (
        "define it in a file of its own and pass it, or its address such as "
        "net.py:build; or use processes=1"
    )
    for name in ("build", "data", "loss", "optimizer", "valid", "metric", "arms"):
        try:
            text = pickle.dumps(getattr(plan, name))
        except Exception as error:  # pickle raises what the object's own code raises
            raise InputError(
                f"{name} cannot be sent to another process ({one_line(error)}); {to_do}"
            ) from error
        main = getattr(sys.modules["__main__"], "__file__", None)
        if b"__main__" in text and not (main and Path(main).is_file()):
            raise InputError(
                f"{name} was defined interactively, where no other process finds it; "
                + to_do
            )
    return pickle.dumps(plan)


def _begin(plan: bytes) -> None:
    """Set up a worker: Ctrl-C is for the process that waits for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _PLAN.append(pickle.loads(plan))


def _work(*job: Any) -> Run:
    return run(_PLAN[0], *job)
