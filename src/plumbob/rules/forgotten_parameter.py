"""PB502: a trainable parameter that no optimiser holds."""

from collections.abc import Iterator

from plumbob.rule import modules, rule
from plumbob.types import Finding, Needs, Remedy, Safety, Severity, Stage, Survey


@rule(
    "PB502",
    "forgotten-parameter",
    Needs.WEIGHTS | Needs.OPTIMIZER,
    Severity.WARNING,
    since="0.1",
    explains=("PB715",),
)
def forgotten_parameter(survey: Survey) -> Iterator[Finding]:
    """A trainable parameter is in no group of the optimiser, so no step moves it.

    Why:
        A layer made or replaced after the optimiser, kept in a plain list, or lost
        between groups computes gradients for nothing and keeps its values for ever.
        What it costs depends on what is left out, and on whether it was on purpose:

        - everything up to some map is left out, everything behind it is held, and the
          part left out is not at its initial values: a feature extractor, info;
        - only vectors (biases, scales): info. A small net on digits reached 90 % in
          as many steps without its biases as with them;
        - anything else (a head, layers in between, random features): a warning. The
          same net without its head's steps took 1.2-1.5 times as many and lost 1 % of
          accuracy, without its middle layer 2 % and without its first two 20 %.

        An optimiser that holds none of this model's parameters is one of another
        instance: of the model before a copy, of a layer before it was replaced, of
        another model. Then nothing here is trained, and it is a warning.

        No threshold: a parameter is held or not.

    Evidence:
        parameters: how many are not held, of `of` trainable ones that the loss reaches.
        values: how many numbers they hold. foreign: how many parameters the optimiser
        holds that are not this model's.

    Remedy:
        Hand them to the optimiser (`plumbob.apply` does, with the settings of its first
        group, vectors without decay; not a feature extractor, which looks meant), or
        freeze them, which says so and saves their gradients. Make an optimiser after
        the last change to its model.

    Allow when:
        Another optimiser, not given here, holds them; check takes a list of several.

    Example:
        >>> from nets import codes, forgotten_parameter
        >>> leans, plumb = (forgotten_parameter(leans=x) for x in (True, False))
        >>> codes(leans), codes(plumb)
        ({'PB502'}, set())

    References:
        PyTorch documentation, torch.optim, "Constructing it" (every parameter that is
        to be optimised is passed explicitly).
    """
    assert survey.optimizer is not None
    held = {name for group in survey.optimizer.groups for name in group.parameters}
    trainable = [
        name
        for name, tensor in survey.tensors.items()
        if tensor.trainable
        and (name not in survey.gradients or survey.gradients[name].reached)
    ]
    lost = [name for name in trainable if name not in held]
    if not lost:
        return
    left = [site for site in survey.sites if {site.weight, site.bias} & set(lost)]
    taken = [site for site in survey.sites if {site.weight, site.bias} & held]
    other = held.isdisjoint(survey.tensors)
    first = survey.sites.index(taken[0]) if taken else len(survey.sites)
    extractor = bool(left and taken) and all(
        survey.sites.index(site) < first for site in left
    )
    initial = any(site.stage is Stage.INIT for site in left)
    vectors = all(len(survey.tensors[name].shape) < 2 for name in lost)
    yield Finding(
        site=left[-1].name if left else lost[0],
        message="{parameters} of {of} trainable {of:parameter|parameters} ({values} "
        "{values:number|numbers}) {parameters:is|are} in no group of the optimiser: "
        + modules(lost),
        cause="it holds none of this model's parameters, but {foreign} of something "
        "else: it was made for another instance, or before the model was replaced"
        if other
        else "they are biases and scales only"
        if vectors
        else "they are left out while their neighbours are held"
        if not extractor
        else "all of this part is left out, and it is at its initial, random values"
        if initial
        else "everything up to here is left out and everything behind is held: a "
        "feature extractor, it seems",
        evidence={
            "parameters": len(lost),
            "of": len(trainable),
            "values": sum(survey.tensors[name].count for name in lost),
            "foreign": sum(
                name not in survey.tensors
                for group in survey.optimizer.groups
                for name in group.parameters
            ),
        },
        remedy=Remedy(
            advice="Make the optimiser from the parameters of the model that is "
            "trained, after its last layer was built or replaced."
        )
        if other
        else Remedy(
            advice="Call requires_grad_(False) on them, which says so, or hand them to "
            "the optimiser."
        )
        if extractor and not initial
        else Remedy(
            advice="Hand them to the optimiser, or call requires_grad_(False) on them.",
            safety=Safety.CHANGES_TRAINING,
            act="add-parameters",
            arguments={
                "parameters": tuple(lost),
                "undecayed": tuple(
                    name for name in lost if len(survey.tensors[name].shape) < 2
                ),
            },
        ),
        severity=Severity.WARNING
        if other
        else Severity.INFO
        if vectors or (extractor and not initial)
        else Severity.WARNING,
    )
