"""Which scheme a site gets, and why."""

from plumbob.design.choice.choose import Chooser

__all__ = ["Chooser"]
