"""`watch`: the same rules on a running training."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from plumbob.settings import Settings
    from plumbob.types import Finding, Severity
    from plumbob.watching.sink import Sink
    from plumbob.watching.watch import Watch


def watch(
    model: Any,
    optimizer: Any = None,
    *,
    loss: Callable[..., Any] | None = None,
    every: int = 50,
    run: "str | Path | bool | None" = None,
    sinks: "Sequence[Sink]" = (),
    on_finding: "Literal['warn', 'raise'] | Callable[[int, Finding], None] | None" = (
        "warn"
    ),
    severity: "Severity | str" = "warning",
    select: str | Iterable[str] | None = None,
    ignore: str | Iterable[str] | None = None,
    settings: "Settings | None" = None,
    graph: bool = True,
    live: bool | None = None,
) -> "Watch":
    """Watch a training from its first step; findings appear while it runs.

    The training goes on as it would have, bit for bit, and so it does when something
    of plumbob's own breaks, a sink or a disk: that is said once. On several ranks watch
    on each of them, after `init_process_group`: their readings are added up, and the
    first one records and warns.

    Args:
        model: the module that is trained, compiled or not, or a dict or list of
            modules that train together; hooks are put on their parts.
        optimizer: the optimiser or optimisers whose steps are the clock; without one
            call `watch.step(loss)` after each step.
        loss: called as `loss(outputs, targets)`. Where it is a module its calls are
            heard; else call it as `watch.loss(outputs, targets)`, or tell its values
            to `watch.step(loss)`. Values without gradients are validation losses.
        every: how many steps lie between two measured ones.
        run: the folder to record in, a new one beside it where it exists; True: one
            under `runs` with the date. Nothing is recorded by default.
        sinks: other places where readings go; see `plumbob.sinks`.
        on_finding: "warn"; "raise" (`FindingError`, out of the optimiser's step; on
            a device each loss is then waited for); or called with the step and the
            finding. Each finding once.
        severity: the mildest finding that it is told of.
        select: codes, prefixes or names of the rules to judge by.
        ignore: those not to judge by.
        settings: thresholds and ignores; `select` and `ignore` come on top.
        graph: trace the model on its first batch, after the first step.
        live: a line in the terminal; by default where there is one.

    Returns:
        The watch: a context manager with `step`, `validate`, `loss`, `findings`,
        `changes` and `report`; `close` ends it.

    Raises:
        InputError: the model, loss or optimiser cannot be used as given.
        SettingsError: a code, name or threshold does not exist.
    """
    import sys

    from plumbob.survey.guard import same_random

    with same_random():  # what is imported for the first time may draw from them
        from plumbob.errors import InputError, did_you_mean
        from plumbob.report.report import Report
        from plumbob.settings import Settings
        from plumbob.sinks.run_file import RunFile
        from plumbob.types import Severity
        from plumbob.verbs.shelf import shelf
        from plumbob.watching.live import Live
        from plumbob.watching.outlets import say
        from plumbob.watching.watch import Watch

    if every < 1:
        raise InputError(f"expected every= 1 or more steps, got {every}")
    if isinstance(on_finding, str) and on_finding not in {"warn", "raise"}:
        raise InputError(
            f"expected on_finding= 'warn', 'raise', a function or None, got "
            f"{on_finding!r}"
        )
    if isinstance(severity, str):
        names = [s.name.lower() for s in Severity]
        if severity.lower() not in names:
            raise InputError(
                f"expected a severity of {', '.join(names)}, got {severity!r}."
                + did_you_mean(severity, names)
            )
        severity = Severity[severity.upper()]
    rules = shelf()
    chosen = (settings or Settings()).choose(rules, select=select, ignore=ignore)
    first = _rank() == 0  # readings are of all ranks together: one of them tells
    outlets = list(sinks) if first else []
    folder = None
    if run and first:
        try:
            recorder = RunFile.new(None if run is True else Path(run))
        except OSError as error:
            say(f"the run is not recorded, the training goes on ({error})")
        else:
            outlets.append(recorder)
            folder = recorder.folder
    if first and (sys.stderr.isatty() if live is None else live):
        outlets.append(Live())

    def warn(step: int, finding: "Finding") -> None:
        place = finding.site or "the model"
        advice = finding.remedy.advice
        say(f"step {step}: {finding.code} {place}: {finding.message}. {advice}")

    return Watch(
        model,
        optimizer,
        rules=rules,
        report=Report,
        settings=chosen,
        loss=loss,
        every=every,
        sinks=outlets,
        on_finding=_called(warn if on_finding == "warn" and first else on_finding),
        stops=on_finding == "raise",
        severity=severity,
        graph=graph,
        run=folder,
    )


def _called(on_finding: Any) -> Any:
    return on_finding if callable(on_finding) else None


def _rank() -> int:
    from torch import distributed

    spread = distributed.is_available() and distributed.is_initialized()
    return distributed.get_rank() if spread else 0
