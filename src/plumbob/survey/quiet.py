"""Passes of a model that are no part of a training, of which hooks take no note."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch


class _Here(threading.local):
    quiet = False


_here = _Here()


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Say that what runs in this thread meanwhile is plumbob's own doing."""
    before, _here.quiet = measuring(), True
    try:
        yield
    finally:
        _here.quiet = before


def measuring() -> bool:
    """Say whether plumbob itself runs the model, in this thread."""
    return _here.quiet


def aside() -> bool:
    """Say whether the model runs for something else than a step in eager mode.

    It is compiled or traced, or runs inside torch.func, or for plumbob.
    """
    if torch.compiler.is_compiling():
        return True
    inside: Any = torch._C  # pyright: ignore[reportPrivateUsage]
    level = inside._functorch.peek_interpreter_stack()
    return measuring() or inside._is_tracing() or level is not None
