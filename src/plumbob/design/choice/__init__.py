"""Which scheme a site gets, and why."""

from plumbob.design.choice.choose import Chooser, Draw, forget_rows

__all__ = ["Chooser", "Draw", "forget_rows"]
