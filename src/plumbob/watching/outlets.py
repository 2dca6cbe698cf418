"""Sinks that may fail: a broken one is taken out, told of once, and costs no more."""

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from plumbob.errors import one_line
from plumbob.judge import Verdict
from plumbob.watching.sink import Sink


def say(text: str) -> None:
    """Warn, and never raise: warnings that are errors are so for the user's code."""
    try:
        # no line of ours is where it comes from, and each text counts for itself
        warnings.warn_explicit(text, UserWarning, "<plumbob>", 1)
    except UserWarning:
        print(f"plumbob: {text}", file=sys.stderr)


class Outlets:
    """All sinks of a run."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = list(sinks)
        self.lost: dict[str, str] = {}

    def each(self, act: Callable[[Any], object]) -> None:
        """Do something with each sink, and drop those that raise."""
        for sink in list(self.sinks):
            try:
                act(sink)
            except Exception as error:  # a full disk, a lost connection, anything
                self.sinks.remove(sink)
                name = type(sink).__name__
                self.lost[name] = one_line(error)
                say(
                    f"{name} gets nothing any more, the training goes on "
                    f"({one_line(error)})"
                )

    def judged(self, step: int, verdict: Verdict) -> None:
        """Pass on what was found, and what was not judged to sinks that take it."""
        self.each(lambda sink: _verdict(sink, step, verdict))
        self.each(lambda sink: sink.tell(step, verdict.findings))

    def event(self, step: int, kind: str, text: str) -> None:
        """Pass on what else happened, to sinks that take it."""
        self.each(lambda sink: _event(sink, step, kind, text))


def _event(sink: Any, step: int, kind: str, text: str) -> None:
    if hasattr(sink, "event"):
        sink.event(step, kind, text)


def _verdict(sink: Any, step: int, verdict: Verdict) -> None:
    if hasattr(sink, "verdict"):
        sink.verdict(step, verdict)
