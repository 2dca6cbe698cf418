"""`plumbob rule`, `plumbob rules` and `plumbob demo`."""

import sys
from typing import Annotated

import typer

from plumbob.cli.inputs import progress
from plumbob.cli.options import Debug


def rule(
    word: Annotated[str, typer.Argument(metavar="CODE|NAME")],
    debug: Debug = False,
) -> int:
    """Explain a rule: what, why, evidence, thresholds, remedy, when to allow it."""
    from plumbob.verbs.rule import explain

    typer.echo(explain(word))
    return 0


def rules(debug: Debug = False) -> int:
    """List all rules."""
    from plumbob.verbs.rule import listing

    typer.echo(listing())
    return 0


def demo(debug: Debug = False) -> int:
    """Plant faults in a small network, check it, and put each remedy to the trial."""
    from plumbob.verbs.demo import demo

    out = sys.stdout
    with progress() as step:

        def echo(text: str) -> None:
            if step:
                step("")
            typer.echo(text, file=out)

        demo(echo, step)
    return 0
