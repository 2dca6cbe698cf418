"""The command line: parse, call one verb, print."""

import os
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from enum import Enum
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbob import address
from plumbob.errors import InputError, PlumbobError
from plumbob.settings import Settings, load, read_baseline

if TYPE_CHECKING:
    from plumbob.report.report import Report

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


@cli.command()
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
    debug: Debug = False,
) -> int:
    """Judge a checkpoint, or a model on data: what leans, why, and what to do."""
    from plumbob.verbs.check import check
    from plumbob.verbs.shelf import shelf

    settings = _settings(baseline, accept=write_baseline is not None).choose(
        shelf(), select=select, ignore=ignore, thresholds=assign or ()
    )
    given = {"data": data, "targets": targets, "loss": loss, "optimizer": optimizer}
    given["stage"] = stage
    with _progress() as step:
        model = _model(target, weights, given)
        report = check(
            model,
            address.data(data) if data else None,
            targets=address.data(targets) if targets else None,
            loss=address.loss(loss) if loss else None,
            optimizer=address.optimizer(optimizer, model) if optimizer else None,
            stage=stage,
            settings=settings,
            limit=max_batches,
            progress=step,
        )
    if write_baseline:
        _write(write_baseline, _keys(report))
    _tell(report, form, output)
    if report.crashed:
        return 2
    worst = report.worst.name.lower() if report.worst else None
    order = [FailOn.INFO.value, FailOn.WARNING.value, FailOn.ERROR.value]
    fails = worst in order[order.index(fail_on.value) :] and not exit_zero
    return int(fails)


@cli.command()
def look(
    target: Target,
    site: Annotated[str | None, typer.Argument(metavar="[SITE]")] = None,
    unit: Annotated[int | None, typer.Argument(metavar="[UNIT]")] = None,
    data: Data = None,
    loss: Loss = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="0,1,...",
            help="With SITE and UNIT: the biases that give each input this label.",
        ),
    ] = None,
    weights: Weights = None,
    max_batches: MaxBatches = None,
    debug: Debug = False,
) -> int:
    """Show what the weights and biases of a model do: all sites, one, or one unit."""
    from plumbob.verbs.look import look

    with _progress() as step:
        model = _model(target, weights, {"data": data, "loss": loss}, checkpoint=False)
        view = look(
            model,
            address.data(data) if data else None,
            loss=address.loss(loss) if loss else None,
            limit=max_batches,
            progress=step,
        )
    if site is not None:
        view = view[site] if unit is None else view[site, unit]
    typer.echo(str(view))
    if labels is not None:
        from plumbob.report.view import labelled

        typer.echo(labelled(view, labels))
    return 0


@cli.command()
def rule(
    word: Annotated[str, typer.Argument(metavar="CODE|NAME")],
    debug: Debug = False,
) -> int:
    """Explain a rule: what, why, evidence, thresholds, remedy, when to allow it."""
    from plumbob.verbs.rule import explain

    typer.echo(explain(word))
    return 0


@cli.command()
def rules(debug: Debug = False) -> int:
    """List all rules."""
    from plumbob.verbs.rule import listing

    typer.echo(listing())
    return 0


@cli.command()
def demo(debug: Debug = False) -> int:
    """Plant faults in a small network, check it, and put each remedy to the trial."""
    from plumbob.verbs.demo import demo

    out = sys.stdout
    with _progress() as step:

        def echo(text: str) -> None:
            if step:
                step("")
            typer.echo(text, file=out)

        demo(echo, step)
    return 0


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


def _settings(baseline: Path | None, *, accept: bool) -> Settings:
    settings = load(Path.cwd(), with_baseline=not accept and baseline is None)
    return replace(settings, baseline=read_baseline(baseline)) if baseline else settings


def _model(
    target: str,
    weights: Path | None,
    given: dict[str, str | None],
    *,
    checkpoint: bool = True,
) -> Any:
    """Return the path of a checkpoint, or a model with its weights loaded.

    Raises:
        InputError: the target is neither, or a checkpoint was given data.
    """
    path = Path(target)
    if not path.exists() and address.is_address(target):
        model = address.model(target)
        if weights:
            from plumbob.survey.weights import load

            load(model, weights)
        return model
    if path.suffix == ".py":
        raise InputError(f"Name the model in '{target}', as in {target}:build.")
    if not path.exists():
        raise InputError(
            f"Expected a safetensors file, a folder of them, or an address such as "
            f"net.py:build, got '{target}'."
        )
    extra = [f"--{name}" for name, value in given.items() if value]
    if extra or not checkpoint:
        raise InputError(
            f"'{target}' is a checkpoint, which has weights only; "
            f"{extra[0] if extra else 'looking'} needs the address of a model (load "
            f"the checkpoint into it with --weights)."
        )
    if weights:
        raise InputError(f"--weights goes with the address of a model, not '{target}'.")
    return path


@contextmanager
def _progress() -> Generator[Callable[[str], None] | None, None, None]:
    """Give a line on stderr that is written over and over, on a terminal only.

    What the user's code prints goes there too: stdout is for the report alone.
    """

    def step(line: str) -> None:
        print(f"\r\x1b[2K{line[:79]}", end="", file=sys.stderr, flush=True)

    shown = sys.stderr.isatty()
    try:
        with redirect_stdout(sys.stderr):
            yield step if shown else None
    finally:
        if shown:
            step("")


def _tell(report: "Report", form: Format, output: Path | None) -> None:
    teller = import_module(f"plumbob.report.{form.value}")
    if output:
        _write(output, teller.render(report))
    elif form is Format.TEXT:
        from rich.console import Console

        console = Console(highlight=False)
        console.print(teller.drawing(report, console.width), soft_wrap=True)
    else:
        typer.echo(teller.render(report))


def _keys(report: "Report") -> str:
    from plumbob.judge import key

    found = [f for root in report.findings for f in (root, *root.consequences)]
    return "".join(f"{k}\n" for k in sorted({key(f) for f in found}))


def _write(path: Path, text: str) -> None:
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
