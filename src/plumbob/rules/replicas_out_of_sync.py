"""PB714: copies of a parameter on several ranks that are no longer the same."""

from collections.abc import Iterator

from plumbob.rule import modules, rule
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule(
    "PB714",
    "replicas-out-of-sync",
    Needs.HISTORY,
    Severity.ERROR,
    since="0.1",
    explains=("PB703", "PB711"),
)
def replicas_out_of_sync(
    survey: Survey, *, apart_above: float = 1e-5
) -> Iterator[Finding]:
    """The ranks of a data-parallel training hold different values of one parameter.

    Why:
        Data-parallel ranks are one model: they begin with the same weights, average
        their gradients and take the same step, so that their copies agree bit for bit.
        Where they do not, each rank trains a model of its own on its own share of the
        data, the losses are those of different models, and the checkpoint is that of
        one of them. Nothing fails. What makes them part:

        - a step whose gradients were not averaged: the inner module was called instead
          of the wrapper, within `no_sync()`, or a parameter was not used on one rank;
        - a start from different seeds without a broadcast;
        - a step that one rank left out, or took with another learning rate.

    Evidence:
        parameters: how many differ; apart: the largest difference as a share of the
        parameter's size.

    Args:
        apart_above: difference as a share of the size of a parameter that is told: a
            hundred times what float32 rounds to, so that sums which ranks form in
            another order do not count.

    Remedy:
        Call the wrapper that averages gradients, in each step and on each rank. Two
        ranks, an MLP on digits that were sorted by class between them (SGD at 0.1,
        5 epochs, three seeds): 48-50 % right at each rank where no gradient was
        averaged, 84-87 % where all were.

    Allow when:
        The ranks are meant to part and are averaged now and then (local SGD), or train
        different models.

    Example:
        >>> from nets_history_steps import replicas_out_of_sync
        >>> from watched import codes
        >>> codes(replicas_out_of_sync(leans=True)) & {"PB714"}
        {'PB714'}
        >>> codes(replicas_out_of_sync(leans=False)) & {"PB714"}
        set()

    References:
        Li et al. (2020), PyTorch Distributed: experiences on accelerating data parallel
        training, section 3.
    """
    assert survey.history is not None
    parted = {
        name: share
        for name, share in survey.history.apart.items()
        if not share <= apart_above  # NaN on one rank alone is apart too
    }
    if not parted:
        return
    largest = max(parted, key=lambda name: parted[name])
    yield Finding(
        site=largest,
        message="the ranks hold different values of {parameters} "
        "{parameters:parameter|parameters}, up to {apart:.2g} of their size apart: "
        + modules(parted),
        cause="a step was taken without averaging the gradients over the ranks, or the "
        "ranks began with different values",
        evidence={"parameters": len(parted), "apart": parted[largest]},
        remedy=Remedy(
            advice="Call the wrapped model (DistributedDataParallel), never the module "
            "within, in every step; or broadcast the weights of one rank and average "
            "the gradients by hand before each step."
        ),
    )
