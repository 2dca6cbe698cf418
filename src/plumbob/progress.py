"""How far a training has come, and what its optimiser makes of a gradient's size."""

from plumbob.types import Survey


def learnt(survey: Survey) -> float | None:
    """Return how much of what the best constant leaves to be learnt has been learnt.

    0: the loss is no better than that of a constant output; 1: it is at its floor.
    None where the loss could not be asked, or leaves nothing to be learnt.
    """
    found = survey.output
    if found is None:
        return None
    left = found.constant - (found.floor or 0.0)
    return (found.constant - found.loss) / left if left > 0 else None


def in_proportion(survey: Survey) -> bool:
    """Return whether the optimiser is known to step in proportion to the gradient."""
    found = survey.optimizer
    return found is not None and found.name.startswith(("SGD", "ASGD", "LBFGS"))
