"""Facts about the inputs, the targets and the last operations."""

from plumbob.survey.scene import Scene
from plumbob.types import Inputs


def input_facts(scene: Scene) -> tuple[Inputs | None, str]:
    """Return facts of inputs and targets, or None and why not."""
    return None, "not measured yet"
