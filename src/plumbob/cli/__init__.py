"""The command line: parse, call one verb, print."""

import os
import sys
import traceback
from importlib import metadata
from typing import Annotated

import typer

from plumbob.cli.check import check
from plumbob.cli.fix import fix
from plumbob.cli.look import look
from plumbob.cli.prove import prove
from plumbob.cli.rule import demo, rule, rules
from plumbob.cli.run import PASSED_ON, run
from plumbob.cli.trial import trial
from plumbob.cli.view import view
from plumbob.errors import PlumbobError

cli = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 clean, 1 findings, 2 bad use, an error or a crashed rule.",
)


@cli.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="The version.")] = False,
) -> None:
    """Say what leans in a network's weights and biases, why, and what to do."""
    if version:
        typer.echo(metadata.version("plumbob"))


for command in (check, look, fix, prove, trial, view, rule, rules, demo):
    cli.command()(command)
cli.command(context_settings=PASSED_ON)(run)


def main() -> int:
    """Run the command line and return the exit status."""
    debug = "--debug" in sys.argv  # wanted also where parsing itself fails
    try:
        return cli(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except BrokenPipeError:  # the reader, `head` for one, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except (Exception, SystemExit) as error:
        if debug:
            traceback.print_exc()
        typer.echo(f"error: {_sentence(error)}", err=True)
        return 2


def _sentence(error: BaseException) -> str:
    # An error of click's, which may be the package or a copy inside typer.
    usage = getattr(error, "format_message", None)
    text = " ".join(str(usage() if usage else error).split())
    if usage or isinstance(error, PlumbobError):
        return text
    if isinstance(error, SystemExit):
        return (
            f"The model or its data called sys.exit({text}); let them raise or return."
        )
    return (
        f"plumbob itself failed, {type(error).__name__}: {text.rstrip('.')}; please "
        f"report it with the output of the same command with --debug."
    )
