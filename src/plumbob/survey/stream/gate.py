"""Which steps are measured: some by number, more where a cheap signal jumps."""

from collections import deque
from math import inf, isfinite

PAST = 32  # values that a new one is held against
KNOWN = 10  # values from which that is tried
ANEW = 4  # values after which the limit is computed again
JUMP = 8.0  # robust standard deviations
LEAST = {"loss": 0.2, "gradient": 2.0}  # shares of the middle that are no jump


class Signal:
    """A number per step; says when it jumps above its recent past.

    `least` is a jump that is none, as a share of the middle: where the past hardly
    varies, any change is many deviations.
    """

    def __init__(self, least: float) -> None:
        self.least = least
        self.past: deque[float] = deque(maxlen=PAST)
        self.count = 0
        self.broken = False
        self.limit = inf

    def jumps(self, value: float) -> bool:
        """Note a value, and say whether it is far above those before."""
        if not isfinite(value):
            began, self.broken = not self.broken, True
            return began
        self.broken = False
        jumped = value > self.limit
        self.past.append(value)
        self.count += 1
        if self.count >= KNOWN and not (self.count - KNOWN) % ANEW:
            self._know()
        return jumped

    def _know(self) -> None:
        values = sorted(self.past)
        # the quarters stand for the deviation: 1.35 of them lie between, if normal
        low, middle, high = (values[len(values) * k // 4] for k in (1, 2, 3))
        spread = max((high - low) / 1.35, (middle - low) / 0.675)
        self.limit = middle + max(JUMP * spread, self.least * abs(middle))


class Gate:
    """Says which steps are due: the same on every rank, unless signals are told.

    At the start `burst` steps; then each `every`-th; where a signal jumps, the next
    `after`. Jumps within `every` steps of the last one are not followed, so that a
    training that is full of them costs no more than 1 + `after` steps in `every`.
    """

    def __init__(self, every: int = 50, burst: int = 5, after: int = 3) -> None:
        self.every, self.burst, self.after = every, burst, after
        self.signals: dict[tuple[str, str], Signal] = {}
        self.until = -1
        self.rest = 0
        self.seen = ""

    def due(self, step: int) -> str:
        """Return why a step is measured: "start", "every", a signal, or not ("")."""
        if step % self.every == 0 and step >= self.burst:
            return "every"
        if step < self.burst:
            return "start"
        return self.seen if step < self.until else ""

    def tell(self, kind: str, name: str, value: float, step: int) -> None:
        """Note a "loss" or "gradient", and whose; `step` is the next to be decided."""
        signal = self.signals.get((kind, name))
        if signal is None:
            signal = self.signals[kind, name] = Signal(LEAST[kind])
        if signal.jumps(value) and step >= self.rest:
            self.seen = kind
            self.until, self.rest = step + self.after, step + self.every
