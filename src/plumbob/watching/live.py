"""One line in the terminal while a training runs."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from plumbob.types import Finding, Log, Survey
from plumbob.watching.timeline import every

PAUSE = 0.25  # seconds between two lines at least


class Live:
    """A sink: step, loss, how many sites lean, the newest finding."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.shown = 0.0
        self.known = set[tuple[str, str | None]]()
        self.leaning = 0
        self.newest = ""
        self.loss = ""

    def begin(self, survey: Survey, about: Mapping[str, Any]) -> None:
        """Take in nothing: the line speaks for itself."""

    def write(self, log: Log) -> None:
        """Draw the line, if the last one is old enough."""
        known = [some[-1][1] for some in log.losses.values() if some]
        if known:
            self.loss = f"  loss {', '.join(f'{value:.4g}' for value in known)}"
        now = time.monotonic()
        if now - self.shown >= PAUSE:
            self.shown = now
            self._draw(log.step)

    def tell(self, step: int, findings: Sequence[Finding]) -> None:
        """Draw the line, if there is something new."""
        held = {(f.code, f.site): f for f in every(findings)}
        self.leaning = len({f.site for f in held.values() if f.site})
        new = [f for place, f in held.items() if place not in self.known]
        self.known |= held.keys()
        if new:
            worst = max(new, key=lambda f: f.severity or 0)
            self.newest = f"  {worst.code} {worst.site or ''}: {worst.message}"
            self._draw(step)

    def close(self) -> None:
        """Leave the last line."""
        self.console.print()

    def _draw(self, step: int) -> None:
        leaning = f"  {self.leaning} leaning" if self.leaning else ""
        line = Text(f"step {step:,}{self.loss}{leaning}{self.newest}")
        width = self.console.width - 1
        line.truncate(width, overflow="ellipsis", pad=True)
        self.console.print(line, end="\r", no_wrap=True, overflow="ignore")
