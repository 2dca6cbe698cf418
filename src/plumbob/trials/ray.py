"""Runs on a Ray cluster, or on this machine where there is none."""

import os
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import islice
from typing import Any

from plumbob.errors import InputError
from plumbob.trials.record import Run
from plumbob.trials.run import Plan, run
from plumbob.trials.schedule import Job


def over_ray(
    plan: Plan, jobs: Iterable[Job], processes: int | None = None
) -> Iterator[Run]:
    """Yield the same runs from `processes` at once, or one on each processor.

    Ray is started where it does not run yet, and then stopped at the end. On a
    cluster of several machines start it before, with a `runtime_env` that takes your
    files to all of them.

    Raises:
        InputError: ray is not installed, or a run failed.
    """
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise InputError(
            'ray is not installed; run: pip install "plumbob[ray]"'
        ) from error
    started = not ray.is_initialized()
    if started:
        paths = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
        ray.init(log_to_driver=False, include_dashboard=False, runtime_env=paths)
    work = ray.remote(num_cpus=1, max_retries=0)(run)
    waiting, running = iter(jobs), list[Any]()
    try:
        shared = ray.put(plan)  # sent once to each machine, since it may hold the data
        at_once = processes or int(ray.cluster_resources()["CPU"])
        while True:
            room = at_once - len(running)
            running += [work.remote(shared, *job) for job in islice(waiting, room)]
            if not running:
                return
            done, running = ray.wait(running)
            yield from ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise InputError(str(error.cause)) from error
    finally:
        for job in running:
            ray.cancel(job, force=True)
        if started:
            ray.shutdown()
