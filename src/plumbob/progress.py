"""How far a training has come, and what its optimiser makes of a gradient's size."""

from plumbob.types import Survey


def learnt(survey: Survey) -> float | None:
    """Return how much of what the best constant leaves to be learnt has been learnt.

    0: the loss is no better than that of a constant output; 1: it is at its floor.
    None where the loss could not be asked, leaves nothing to be learnt, or is better
    than a constant's and has no floor: a likelihood of numbers falls for ever.
    """
    found = survey.output
    if found is None:
        return None
    gained = found.constant - found.loss
    if found.floor is None:
        return 0.0 if gained <= 0 else None
    left = found.constant - found.floor
    return gained / left if left > 0 else None


def in_proportion(survey: Survey) -> bool:
    """Return whether the optimiser is known to step in proportion to the gradient."""
    found = survey.optimizer
    return found is not None and found.name.startswith(("SGD", "ASGD", "LBFGS"))
