"""Facts about what one step of the optimiser does."""

from plumbob.survey.scene import Scene
from plumbob.types import Step


def step_facts(scene: Scene) -> tuple[Step | None, str]:
    """Return what one step of the optimiser does, or None and why it is not known."""
    return None, "not measured yet"
