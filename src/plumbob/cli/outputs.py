"""A report to the terminal or to a file."""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from plumbob.cli.options import Format
from plumbob.errors import InputError

if TYPE_CHECKING:
    from plumbob.report.report import Report


def tell(report: "Report", form: Format, output: Path | None) -> None:
    """Print a report in a format, or write it to a file."""
    teller = import_module(f"plumbob.report.{form.value}")
    if output:
        write(output, teller.render(report))
    elif form is Format.TEXT:
        from rich.console import Console

        console = Console(highlight=False)
        console.print(teller.drawing(report, console.width), soft_wrap=True)
    else:
        typer.echo(teller.render(report))


def keys(report: "Report") -> str:
    """Return a baseline that accepts all findings of a report."""
    from plumbob.judge import key

    found = [f for root in report.findings for f in (root, *root.consequences)]
    return "".join(f"{k}\n" for k in sorted({key(f) for f in found}))


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    path = path.resolve()
    plain = path.is_file() or not path.exists()  # not a device, not a folder
    part = path.with_name(f".{path.name}.{os.getpid()}") if plain else path
    try:
        part.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        if plain:
            part.replace(path)
    except OSError as error:
        if plain:
            part.unlink(missing_ok=True)
        raise InputError(
            f"The file '{path}' cannot be written: {error.strerror}; name another, or "
            f"make its folder first."
        ) from error
