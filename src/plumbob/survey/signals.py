"""Facts about what the depth makes of signal and gradient."""

from plumbob.survey.scene import Scene
from plumbob.types import Signals


def signal_facts(scene: Scene) -> tuple[Signals | None, str]:
    """Return what the depth makes of a signal, or None and why not."""
    return None, "not measured yet"
