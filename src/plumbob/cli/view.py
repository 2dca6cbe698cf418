"""`plumbob view`."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from plumbob.cli.options import Debug
from plumbob.cli.outputs import write


class Form(str, Enum):
    """How a run is shown."""

    HTML = "html"
    TEXT = "text"
    JSON = "json"


def view(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN [RUN]", help="A run file or its folder, or two."),
    ],
    form: Annotated[Form, typer.Option("--format")] = Form.HTML,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write it here; a page goes beside the run unless told otherwise.",
        ),
    ] = None,
    debug: Debug = False,
) -> int:
    """Show a recorded run, or two side by side: what leaned when, and why."""
    from rich.console import Console

    from plumbob.verbs.view import view

    told = view(runs, form.value, Console().width)
    if form is Form.HTML and output is None:
        output = _beside(runs)
    if output is None:
        typer.echo(told)
    else:
        write(output, told)
        typer.echo(f"wrote {output}", err=True)
    return 0


def _beside(runs: list[Path]) -> Path:
    """Return where the page of a run goes: beside it, under its name."""
    places = [run.resolve() for run in runs]
    names = [place.name if place.is_dir() else place.stem for place in places]
    return places[0].parent / f"{'-and-'.join(names)}.html"
