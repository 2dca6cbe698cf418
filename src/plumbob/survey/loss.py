"""Facts about how the loss behaves."""

from plumbob.survey.scene import Scene
from plumbob.types import Loss


def loss_facts(scene: Scene) -> tuple[Loss | None, str]:
    """Return how the loss behaves, or None and why it is not known."""
    return None, "not measured yet"
