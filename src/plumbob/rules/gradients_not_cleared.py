"""PB705: gradients that are not cleared between two steps."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule(
    "PB705",
    "gradients-not-cleared",
    Needs.HISTORY,
    Severity.ERROR,
    since="0.1",
    explains=("PB702", "PB703", "PB704", "PB710", "PB711", "PB717", "PB718"),
)
def gradients_not_cleared(
    survey: Survey, *, share_above: float = 0.5
) -> Iterator[Finding]:
    """The gradients of a step are still there when those of the next are added.

    Why:
        backward() adds to what `.grad` holds. Without zero_grad() the optimiser steps
        along the sum of the gradients of all batches so far, each taken where the
        weights have long ceased to be. That is momentum which never forgets: the loss
        falls at first, then overshoots, and swings wider the longer it goes on. It
        looks like a learning rate that is too high.

        Told by the gradients themselves, where the first backward pass after a step of
        the optimiser finds what that step left behind. Batches that are gathered
        before one step on purpose are not meant: there the passes after the first add
        up.

    Evidence:
        uncleared: how many of `looked` such passes found the gradients of the step
        before; share: of them.

    Args:
        share_above: share from which on it is told. One that is cleared now and then
            only is told too; half leaves room for gradients that a loop of two
            optimisers clears a little later.

    Remedy:
        Call optimizer.zero_grad() before backward(), once a step. An MLP and a CNN on
        digits (10 epochs, three seeds): 8-17 % right without it, much as by guessing,
        against 96-99 % with it (SGD at 0.1, Adam at 0.01); with Adam at 0.001 86-91 %
        and 94-96 % against 96-98 %.

    Allow when:
        The optimiser is meant to step along the sum of all gradients so far.

    Example:
        >>> from nets_history_steps import gradients_not_cleared
        >>> from watched import codes
        >>> codes(gradients_not_cleared(leans=True)) & {"PB705"}
        {'PB705'}
        >>> codes(gradients_not_cleared(leans=False)) & {"PB705"}
        set()

    References:
        PyTorch documentation, torch.optim.Optimizer.zero_grad, and "Zeroing out
        gradients in PyTorch".
    """
    assert survey.history is not None
    looked, uncleared = survey.history.looked, survey.history.uncleared
    # one pass may come from before the watch
    if not looked or uncleared < 2 or uncleared <= share_above * looked:
        return
    yield Finding(
        message="{uncleared} of {looked} first backward passes of a step ({share:.0%}) "
        "add to the gradients of the step before",
        cause="nothing clears the gradients between two steps, so the optimiser steps "
        "along the sum of all of them",
        evidence={
            "looked": looked,
            "uncleared": uncleared,
            "share": uncleared / looked,
        },
        remedy=Remedy(
            advice="Call optimizer.zero_grad() before each backward(); or model."
            "zero_grad(), where several optimisers share it."
        ),
    )
