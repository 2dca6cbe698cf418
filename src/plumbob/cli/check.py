"""`plumbob check`."""

from pathlib import Path
from typing import Annotated

import typer

from plumbob import address
from plumbob.cli.inputs import hollow_model_of, model_of, progress, settings_of
from plumbob.cli.options import (
    Data,
    Debug,
    FailOn,
    Format,
    Loss,
    MaxBatches,
    Target,
    Weights,
)
from plumbob.cli.outputs import keys, tell, write


def check(
    target: Target,
    data: Data = None,
    targets: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The targets of a single batch."),
    ] = None,
    loss: Loss = None,
    optimizer: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A function of the model, or a class."),
    ] = None,
    weights: Weights = None,
    stage: Annotated[
        str | None,
        typer.Option(metavar="init|trained", help="Where you know it."),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="CODES", help="Rules to judge by: PB2,dead-relu."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="CODES", help="Rules not to judge by."),
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="CODE.LIMIT=VALUE", help="Set a threshold."),
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", envvar="PLUMBOB_OUTPUT_FORMAT")
    ] = Format.TEXT,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the report here."),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="The mildest finding that gives exit status 1.")
    ] = FailOn.WARNING,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Findings give exit status 0 too.")
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Leave out the findings accepted there."),
    ] = None,
    write_baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Accept all findings: write them there."),
    ] = None,
    max_batches: MaxBatches = None,
    meta: Annotated[
        bool,
        typer.Option(
            "--meta", help="Build without values and judge the structure alone."
        ),
    ] = False,
    debug: Debug = False,
) -> int:
    """Judge a checkpoint, or a model on data: what leans, why, and what to do."""
    from plumbob.verbs.check import check
    from plumbob.verbs.shelf import shelf

    chosen = settings_of(baseline, accept=write_baseline is not None).choose(
        shelf(), select=select, ignore=ignore, thresholds=assign or ()
    )
    given = {"data": data, "targets": targets, "loss": loss, "optimizer": optimizer}
    given["stage"] = stage
    with progress() as step:
        build = hollow_model_of if meta else model_of
        model = build(target, weights, given)
        report = check(
            model,
            address.data(data) if data else None,
            targets=address.data(targets) if targets else None,
            loss=address.loss(loss) if loss else None,
            optimizer=address.optimizer(optimizer, model) if optimizer else None,
            stage=stage,
            settings=chosen,
            limit=max_batches,
            progress=step,
        )
    if write_baseline:
        write(write_baseline, keys(report))
    tell(report, form, output)
    if report.crashed:
        return 2
    worst = report.worst.name.lower() if report.worst else None
    order = [FailOn.INFO.value, FailOn.WARNING.value, FailOn.ERROR.value]
    fails = worst in order[order.index(fail_on.value) :] and not exit_zero
    return int(fails)
