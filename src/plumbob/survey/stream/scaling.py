"""The gradient scaler of a training in half precision, found where it steps."""

import sys
from math import log
from typing import Any

from torch.amp.grad_scaler import GradScaler

DEEP = 50  # frames, at the most, between a scaler and an optimiser's hook


class Scaling:
    """The factor of a scaled loss, and how many steps were left out.

    A step that is left out does not reach the optimiser, but the scaler backs off
    after it, which the next step that is taken shows.
    """

    def __init__(self) -> None:
        self.scaler: Any = None
        self.asked = 0
        self.none = False
        self.scale = 1.0
        self.skipped = 0

    def look(self) -> None:
        """Look at the scaler, from within an optimiser's hook."""
        if self.scaler is None:
            self.asked += 1
            self._find()
            if self.scaler is None:
                self.none = self.asked > 1  # it is there from the first step, or never
                return
            self.scale = float(self.scaler._init_scale)
        now = float(self.scaler.get_scale())
        if 0 < now < self.scale:
            back = self.scaler.get_backoff_factor()
            self.skipped += max(1, round(log(now / self.scale) / log(back)))
        self.scale = now

    def _find(self) -> None:
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        for _ in range(DEEP):
            if frame is None:
                return
            if frame.f_code.co_name in {"step", "_maybe_opt_step"}:
                own = frame.f_locals.get("self")
                if isinstance(own, GradScaler) and own.is_enabled():
                    self.scaler = own
                    return
            frame = frame.f_back
