"""`watch`: the same rules on a running training."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from plumbob.settings import Settings
    from plumbob.types import Finding
    from plumbob.watching.watch import Watch


def watch(
    model: "nn.Module",
    optimizer: Any = None,
    *,
    every: int = 50,
    on_finding: "Callable[[int, Finding], None] | None" = None,
    settings: "Settings | None" = None,
) -> "Watch":
    """Watch a training from its first step; findings appear while it runs.

    Args:
        model: the module that is trained; hooks are put on its parts.
        optimizer: the optimiser or optimisers whose steps are the clock.
        every: how many steps lie between two measured ones.
        on_finding: called with the step and each new finding.
        settings: rules, thresholds and ignores.

    Returns:
        The watch: a context manager with `step`, `findings` and `report`.
    """
    from plumbob.settings import Settings
    from plumbob.verbs.shelf import shelf
    from plumbob.watching.watch import Watch

    return Watch(
        model,
        optimizer,
        rules=shelf(),
        settings=settings or Settings(),
        every=every,
        on_finding=on_finding,
    )
