"""What plumbob raises.

PlumbobError
├── InputError      a model, batch, loss or optimiser that cannot be used as given
├── AddressError    `net.py:build` or `pkg.module:name` that leads nowhere
├── FileError       a checkpoint that is truncated, hostile or of an unknown kind
└── SettingsError   a setting, rule code or threshold that does not exist

Each message says what was expected, what was got, where, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class PlumbobError(Exception):
    """Base of everything plumbob raises on purpose."""


class InputError(PlumbobError):
    """A model, batch, loss or optimiser cannot be used as given."""


class AddressError(PlumbobError):
    """An address such as `net.py:build` leads nowhere."""


class FileError(PlumbobError):
    """A file is truncated, hostile or of an unknown kind."""


class FindingError(PlumbobError):
    """A watched training has a finding, and was to stop there; `finding` is it."""

    def __init__(self, message: str, finding: Any, step: int) -> None:
        super().__init__(message)
        self.finding, self.step = finding, step


class SettingsError(PlumbobError):
    """A setting, rule code or threshold does not exist."""


def one_line(error: BaseException) -> str:
    """Return "ValueError: its text" of an error of the user's code, on one line."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest known word, else ""."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
