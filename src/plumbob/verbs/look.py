"""`look`: what each weight and bias of a model does."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from plumbob.report.view import View


def look(
    model: "nn.Module",
    data: Any = None,
    *,
    targets: Any = None,
    loss: Callable[..., Any] | None = None,
    keep: int = 1024,
    limit: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> "View":
    """Show what no table of weights shows: where z = w.x + b lies against zero.

    The model and all random states are left bit for bit as found. Without data only
    what the weights say by themselves is shown.

    Args:
        model: a module.
        data: as for `check`: a tensor, a dict, a tuple, or a loader of batches.
        targets: of a single batch; not needed.
        loss: only tells that a loader's items are pairs of inputs and targets.
        keep: rows of z kept per site for pictures and medians; all rows of a batch
            must fit for `view[site, unit].interval(labels)`.
        limit: the largest number of batches taken from a loader.
        progress: called with a short line at each step of the work.

    Returns:
        A view: `print(view)`, `view["fc1"]`, `view["fc1", 3]`, `view.table()`.

    Raises:
        InputError: the model or data cannot be used as given.
    """
    from plumbob.report.view import View
    from plumbob.survey.measure import measure

    survey = measure(
        model,
        data,
        targets=targets,
        loss=loss,
        keep=keep,
        gradients=False,
        limit=limit,
        progress=progress,
    )
    return View(survey=survey)
