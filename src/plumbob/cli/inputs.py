"""From what stands on the command line to settings, a model and a progress line."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from plumbob import address
from plumbob.errors import InputError
from plumbob.settings import Settings, load, read_baseline


def settings_of(baseline: Path | None, *, accept: bool) -> Settings:
    """Return the settings of the working directory, with this baseline if given."""
    settings = load(Path.cwd(), with_baseline=not accept and baseline is None)
    return replace(settings, baseline=read_baseline(baseline)) if baseline else settings


def model_of(
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
def progress() -> Generator[Callable[[str], None] | None, None, None]:
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
