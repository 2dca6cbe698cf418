"""One line in the terminal while a training runs."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from plumbob.types import Finding, Log, Survey
from plumbob.watching.timeline import every

PAUSE = 0.25  # seconds between two lines at least


class Live:
    """A sink: step, loss, how many sites lean, the newest finding.

    Why:
        The line takes the whole width, and the cursor stays behind its last column:
        what the script prints next begins a line of its own, and the next line of ours
        is drawn over the last one where the script has printed nothing.
    """

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
        if time.monotonic() - self.shown >= PAUSE:
            self._draw(log.step)

    def tell(self, step: int, findings: Sequence[Finding]) -> None:
        """Draw the line, if there is something new."""
        held = {(f.code, f.site): f for f in every(findings)}
        self.leaning = len({f.site for f in held.values() if f.site})
        new = [f for place, f in held.items() if place not in self.known]
        self.known |= held.keys()
        if new:
            worst = max(new, key=lambda f: f.severity or 0)
            place = worst.site or "the model"
            self.newest = f"  {worst.code} {place}: {worst.message}"
            self._draw(step)

    def close(self) -> None:
        """Leave the last line."""
        if self.shown and self.console.is_terminal:
            self.console.print()

    def _draw(self, step: int) -> None:
        self.shown = time.monotonic()
        leaning = f"  {self.leaning} leaning" if self.leaning else ""
        line = Text(f"step {step:,}{self.loss}{leaning}{self.newest}")
        drawn = self.console.is_terminal
        line.truncate(self.console.width, overflow="ellipsis", pad=drawn)
        if drawn:
            self.console.control(Control((ControlType.CARRIAGE_RETURN,)))
        end = "" if drawn else "\n"
        self.console.print(line, end=end, no_wrap=True, overflow="ignore")
