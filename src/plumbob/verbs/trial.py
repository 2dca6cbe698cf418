"""`trial`: what each remedy is worth, measured on the user's own model and data."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from plumbob.trials.schedule import Spread
    from plumbob.trials.table import Table
    from plumbob.types import Stage


def trial(
    build: "Callable[[], nn.Module] | nn.Module | str",
    data: Any,
    *,
    loss: Callable[..., Any] | str | None,
    optimizer: Callable[..., Any] | str,
    steps: int = 500,
    seeds: int = 5,
    remedies: str | Iterable[str] | Mapping[str, Callable[..., Any]] | None = None,
    valid: Any = None,
    metric: Callable[..., Any] | str | None = None,
    level: float | None = None,
    minutes: float | None = None,
    processes: int = 1,
    ray: bool = False,
    alpha: float = 0.05,
    stage: "Stage | str | None" = "init",
    progress: Callable[[str], None] | None = None,
) -> "Table":
    """Train with and without each remedy, paired by seed, and say which of them help.

    Why:
        Whether a remedy helps depends on the net, the data and the optimiser. From
        one seed every arm starts with the same weights and is fed the same batches in
        the same order, so that the difference is the remedy's and chance is what is
        left over the seeds. All runs are on copies; the generators and threads of
        this process are left as found. With many threads a model may run faster
        outside: every run has one, or the table would depend on their number.

    Args:
        build: a function that makes the model, or its address (net.py:build). From a
            module itself copies are trained: the seeds then draw the batches only.
        data: a loader, a list of batches, a single batch, a function that makes one
            of these, or its address. Batches are sent to the model's device.
        loss: called as `loss(outputs, targets)`, a mean over the samples; None where
            the model returns its loss.
        optimizer: a function of the model (or of its parameters: a class, or a
            function whose first parameter is called `params`) that makes its
            optimiser, or its address.
        steps: of the optimiser in each run; the learning rate stays as it is.
        seeds: how many; 3 or more for a verdict.
        remedies: codes of findings to follow, or names mapped to functions
            `f(model, optimizer)` that change the model in place and may return a new
            optimiser. By default whatever check finds in the first seeds that has
            an executable remedy.
        valid: data to validate on; by default a fifth of `data` drawn by the seed.
        metric: called as `metric(outputs, targets)`, a mean over the samples; by
            default accuracy where the loss is a cross-entropy.
        level: the validation loss that steps are counted to; by default the lowest
            that all runs of both arms of a comparison reach.
        minutes: no run is started that would end later; whole seeds are compared.
        processes: how many train at once; the table does not depend on it.
        ray: train on a Ray cluster instead, with one process on all processors.
        alpha: the error rate of each verdict, where differences are near normal.
        stage: of the model as built, as for `check`.
        progress: called with a short line at each step of the work.

    Returns:
        The table: `print(table)`, `table.rows()`, `table.to_dict()`. After Ctrl-C
        that of the seeds that are complete.

    Raises:
        InputError: something cannot be used as given, or a run failed.
        AddressError: an address leads nowhere.
        SettingsError: a code does not exist.
    """
    from plumbob.errors import InputError
    from plumbob.trials.run import Plan
    from plumbob.trials.schedule import carry_out
    from plumbob.trials.table import Table
    from plumbob.verbs.arms import LOOKED_AT, of_findings, of_functions

    until = None if minutes is None else monotonic() + 60 * minutes
    _check_numbers(steps, seeds, processes, minutes, alpha)
    tell = progress or _silence
    plan = Plan(
        build=build,
        data=data,
        loss=loss,
        optimizer=optimizer,
        valid=valid,
        metric=metric,
        steps=steps,
        arms={},
    )
    if isinstance(remedies, Mapping):
        arms, by_hand = of_functions(remedies), ()
    elif callable(remedies):
        raise InputError(
            f"expected codes such as 'PB201,PB601' or names mapped to functions, got "
            f"{type(remedies).__name__}; pass {{'name': function}}"
        )
    else:
        arms, by_hand = of_findings(plan, remedies, stage, min(seeds, LOOKED_AT), tell)
    plan = replace(plan, arms=arms)
    spread, at_once = _spread(processes, ray)
    runs, stopped = (
        carry_out(plan, spread, seeds=seeds, at_once=at_once, until=until, tell=tell)
        if arms
        else ((), "Check found nothing with a remedy that can be followed.")
    )
    return Table(
        runs=runs,
        steps=steps,
        every=plan.every,
        alpha=alpha,
        level=level,
        metric=_name(metric) if any(r.metric is not None for r in runs) else None,
        by_hand=by_hand,
        stopped=stopped,
    )


def _name(metric: Any) -> str:
    if isinstance(metric, str):
        return metric.rpartition(":")[2]
    return "accuracy" if metric is None else getattr(metric, "__name__", "metric")


def _silence(line: str) -> None:
    """Tell nobody."""


def _check_numbers(
    steps: int, seeds: int, processes: int, minutes: float | None, alpha: float
) -> None:
    from plumbob.errors import InputError

    counts = {"steps": steps, "seeds": seeds, "processes": processes}
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"expected {name} of at least 1, got {count}")
    if minutes is not None and not minutes > 0:  # nan too
        raise InputError(f"expected minutes above 0, got {minutes}")
    if not 0 < alpha < 1:
        raise InputError(f"expected an error rate alpha between 0 and 1, got {alpha}")


def _spread(processes: int, ray: bool) -> "tuple[Spread, int]":
    """Return what carries the runs out, and how many there are at once."""
    if ray:
        from plumbob.trials.ray import over_ray

        at_once = processes if processes > 1 else None
        return partial(over_ray, processes=at_once), at_once or os.cpu_count() or 1
    from plumbob.trials.workers import here, over_processes

    if processes == 1:
        return here, 1
    return partial(over_processes, processes=processes), processes
