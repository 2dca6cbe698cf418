"""The arguments that several commands share."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Format(str, Enum):
    """How a report is told; each has its file in plumbob.report."""

    TEXT = "text"
    CONCISE = "concise"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"
    GITHUB = "github"


class FailOn(str, Enum):
    """The mildest severity that makes the exit status 1."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="A safetensors file or folder, which executes nothing; or the address of "
        "a model, net.py:build or package.module:Model: importing it runs its module.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A batch, a loader, or a function of either."),
]
Loss = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Called as loss(outputs, targets)."),
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="A safetensors file or folder to load first."),
]
MaxBatches = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Take at most N batches from a loader."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")]
