"""`plumbob run`."""

import runpy
import sys
import traceback
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbob.cli.options import Debug, FailOn, Format
from plumbob.cli.outputs import tell
from plumbob.errors import InputError

if TYPE_CHECKING:
    from plumbob.watching.watch import Watch

# what stands after the script is the script's
PASSED_ON = {
    "allow_extra_args": True,
    "allow_interspersed_args": False,
    "ignore_unknown_options": True,
}


def run(
    context: typer.Context,
    script: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="train.py, or a module with -m.")
    ],
    module: Annotated[
        bool, typer.Option("-m", help="SCRIPT is a module, as for python -m.")
    ] = False,
    every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Measure each N-th step.")
    ] = 50,
    folder: Annotated[
        Path | None,
        typer.Option("--run", metavar="FOLDER", help="Record here, not in runs/."),
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", envvar="PLUMBOB_OUTPUT_FORMAT")
    ] = Format.TEXT,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the report here."),
    ] = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(help="The mildest finding that gives exit status 1."),
    ] = None,
    debug: Debug = False,
) -> int:
    """Run a training script and watch what it trains; the script is not changed.

    Everything after SCRIPT is passed on to it, and so is its exit status.
    """
    if not module:
        _exists(script)
    from plumbob.hosts.script import ended, imported, listening
    from plumbob.verbs.watch import watch

    start = Path.cwd()  # the script may go elsewhere
    folder = folder or Path("runs", f"{date.today().isoformat()}-a")
    several: dict[str, Any] = {"every": every, "run": folder.absolute()}
    output = output.absolute() if output else None
    fitted: list[Any] = []

    def begin(models: Any, optimizers: list[Any]) -> "Watch":
        one = next(iter(models.values())) if len(models) == 1 else models
        return watch(one, optimizers, **several)

    def keras() -> None:
        from keras.backend import backend

        if backend() != "torch":
            return
        from plumbob.hosts.keras import Watcher
        from plumbob.hosts.keras_fits import fits

        def watcher() -> Any:
            fitted.append(Watcher(**several))
            return fitted[-1]

        stack.enter_context(fits(watcher))

    with (
        ExitStack() as stack,
        imported("keras", lambda: listener.safely(keras)),
        listening(begin) as listener,
    ):
        status, error = _played(script, context.args, module=module)
        listener.close(error)
    watches = [*listener.closed, *(w.watch for w in fitted if w.watch)]
    for found in watches:
        ended(found, error)
    for number, found in enumerate(watches, 1):
        place = output.with_stem(f"{output.stem}-{number}") if output else None
        tell(found.report, form, output if number == 1 else place)
        if found.run:
            _say_where(found.run, start)
    if listener.broken:
        print(f"plumbob stopped watching: {listener.broken}", file=sys.stderr)
    if not watches:
        print(
            "plumbob: no optimiser of torch's, or of Keras's on torch, was made for "
            "a module's parameters, so nothing was watched",
            file=sys.stderr,
        )
    return status or int(_fails(watches, fail_on))


def _played(
    script: str, args: list[str], *, module: bool
) -> tuple[int, BaseException | None]:
    """Run the script as Python would; return its exit status, and what it raised."""
    argv, path = sys.argv, sys.path[:]
    sys.argv = [script, *args]
    try:
        if module:
            sys.path.insert(0, str(Path.cwd()))
            runpy.run_module(script, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(script).resolve().parent))
            runpy.run_path(str(Path(script).absolute()), run_name="__main__")
    except SystemExit as end:
        return _status(end), None
    except KeyboardInterrupt as error:
        return 130, error
    except Exception as error:
        _trace(error)
        return 1, error
    finally:
        sys.argv, sys.path[:] = argv, path
    return 0, None


def _say_where(run: Path, start: Path) -> None:
    """Say where a run is recorded: another folder where the one named was taken."""
    place = run.relative_to(start) if run.is_relative_to(start) else run
    name = quote(str(place))
    print(f"plumbob: recorded in {name}; plumbob view {name} shows it", file=sys.stderr)


def _exists(script: str) -> None:
    """Refuse what is no file.

    Raises:
        InputError: there is no such file.
    """
    if script.startswith("-"):
        raise InputError(
            f"expected a script, got the option '{script}', which plumbob run does not "
            "know; options of the script come after it"
        )
    if not Path(script).is_file():
        raise InputError(
            f"expected a script, got '{script}', which is no file; give its path, or "
            "-m and the name of a module"
        )


def _fails(watches: "list[Watch]", fail_on: FailOn | None) -> bool:
    if fail_on is None:
        return False
    order = [FailOn.INFO.value, FailOn.WARNING.value, FailOn.ERROR.value]
    worst = [w.report.worst.name.lower() for w in watches if w.report.worst]
    return any(name in order[order.index(fail_on.value) :] for name in worst)


def _status(end: SystemExit) -> int:
    """Return the exit status that Python would give."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def _trace(error: Exception) -> None:
    """Print the script's traceback without the frames that ran it."""
    frames = error.__traceback__
    while frames and frames.tb_frame.f_globals.get("__name__") in {__name__, "runpy"}:
        frames = frames.tb_next
    # without any it is of what cannot be run, and says all in a line
    traceback.print_exception(type(error), error, frames, chain=bool(frames))
