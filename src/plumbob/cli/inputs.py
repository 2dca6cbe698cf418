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


def hollow_model_of(
    target: str, weights: Path | None, given: dict[str, str | None]
) -> Any:
    """Return a model built on torch's meta device: shapes without values.

    Raises:
        InputError: there is nothing to build, or it was built with values, or there
            are weights to load, or no data to trace it with.
    """
    if Path(target).exists() or not address.is_address(target):
        raise InputError(
            f"--meta builds the model itself: give the address of a function or class, "
            f"such as net.py:build, not '{target}'."
        )
    if weights:
        raise InputError("--meta builds a model without values: leave out --weights.")
    if not given["data"]:
        raise InputError(
            "--meta traces the structure on an example: give it with --data, such as "
            "net.py:batch for `def batch(): return torch.zeros(1, 8, dtype=torch.long)`"
            "; its shapes count, not its values."
        )
    import torch

    with torch.device("meta"):
        model = address.model(target)
    solid = [name for name, p in model.named_parameters() if not p.is_meta]
    if solid:
        raise InputError(
            f"Expected '{target}' to build a model without values under --meta, but "
            f"{solid[0]} has some: let it build the model when it is called, without "
            f"device= and without loading weights."
        )
    return model


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
