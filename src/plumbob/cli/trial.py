"""`plumbob trial`."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from plumbob.cli.inputs import progress
from plumbob.cli.options import Debug
from plumbob.cli.outputs import write
from plumbob.errors import InputError


class Form(str, Enum):
    """How the table is told."""

    TEXT = "text"
    JSON = "json"


def trial(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A function or class that makes the model: net.py:build.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="The loader, or a function that makes it."
        ),
    ],
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Called as loss(outputs, targets); none where the model returns it.",
        ),
    ] = None,
    optimizer: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="A function of the model, or a class."),
    ] = "torch.optim:AdamW",
    steps: Annotated[
        int, typer.Option(min=1, metavar="N", help="Optimiser steps of each run.")
    ] = 500,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Runs of each, paired by seed.")
    ] = 5,
    remedies: Annotated[
        list[str] | None,
        typer.Option(metavar="CODES", help="Only the remedies of these: PB201,PB601."),
    ] = None,
    valid: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Held-out batches; else a fifth of the data."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Called as metric(outputs, targets)."),
    ] = None,
    level: Annotated[
        float | None,
        typer.Option(metavar="LOSS", help="Count the steps to this validation loss."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, metavar="M", help="Start no run that would end later."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, metavar="N", help="Train in N processes at once.")
    ] = 1,
    ray: Annotated[
        bool, typer.Option("--ray", help="Train on a Ray cluster (extra: ray).")
    ] = False,
    form: Annotated[Form, typer.Option("--format")] = Form.TEXT,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the table here."),
    ] = None,
    debug: Debug = False,
) -> int:
    """Train with and without each remedy, paired, and say which of them help."""
    from plumbob.trials.schedule import INTERRUPTED
    from plumbob.verbs.trial import trial

    _check_folder(output)
    with progress() as step, _told_of_interruption():
        table = trial(
            target,
            data,
            loss=loss,
            optimizer=optimizer,
            steps=steps,
            seeds=seeds,
            remedies=remedies,
            valid=valid,
            metric=metric,
            level=level,
            minutes=minutes,
            processes=processes,
            ray=ray,
            progress=step,
        )
    text = json.dumps(table.to_dict(), indent=2) if form is Form.JSON else str(table)
    _tell(text, output)
    if table.stopped and INTERRUPTED in table.stopped:
        typer.echo("interrupted", err=True)
        return 130
    return 0


def _tell(text: str, output: Path | None) -> None:
    if output is None:
        return typer.echo(text)
    try:
        write(output, text)
    except InputError:  # what took long must not be lost
        typer.echo(text)
        raise


def _check_folder(output: Path | None) -> None:
    if output and not output.resolve().parent.is_dir():
        raise InputError(
            f"expected a folder that exists for '{output}'; make it, or name another"
        )


@contextmanager
def _told_of_interruption() -> Generator[None, None, None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted before any seed was compared", err=True)
        raise
