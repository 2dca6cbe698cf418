"""PB610: a softmax over one unit, or over the samples of the batch."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Act, Finding, Inputs, Needs, Remedy, Safety, Severity, Survey


@rule(
    "PB610",
    "softmax-over-one",
    Needs.GRAPH | Needs.INPUTS,
    Severity.ERROR,
    since="0.1",
    explains=(
        "PB201",
        "PB401",
        "PB404",
        "PB405",
        "PB601",
        "PB611",
        "PB612",
        "PB702",
        "PB711",
        "PB718",
    ),
)
def softmax_over_one(survey: Survey) -> Iterator[Finding]:
    """A softmax goes over a single unit, or over the samples of the batch.

    Why:
        Softmax divides exp(z) by its sum over an axis. Over one unit it is
        exp(z) / exp(z) = 1 whatever z is, and its derivative is 0: nothing before it
        learns anything from what comes through it. Over the axis of the samples the
        values of a sample depend on which others share its batch, do not sum to one
        over the classes, and are all 1 for a sample by itself, so that there is
        nothing to use after training.

        Measured: five binary tasks of make_classification end at the share of one
        class (0.50), with a sigmoid at 0.84 to 0.94: an error. Digits with it over the
        samples reach the accuracy of their twins on whole batches (0.92 to 0.93), and
        0.098 on single images: a warning, as is one unit inside a net, which weighs
        one thing only.

        A softmax along the first axis is right where that axis holds a set: the nodes
        that a policy picks from, the list that is ranked. It is told only where every
        row has a target of its own among the units: a class, or ones and zeros that
        name one; and never where there are as many units as rows, which may be
        matched with each other.

    Evidence:
        units: how many the map before it has; size: of the axis that it goes over, for
        the samples that of the first batch.

    Remedy:
        One unit: for a probability use a sigmoid, for a number no activation, for
        classes one unit per class. `plumbob.apply` sets the first where all targets
        lie between 0 and 1, else the second, if the softmax is a module of its own
        that ends the model. Samples: give the axis of the classes; `plumbob.apply`
        gives the last behind a linear map.

    Allow when:
        The one unit is a choice of one, as of the only expert of a mixture.

    Example:
        >>> from nets_inputs import softmax_over_one
        >>> from netting import codes
        >>> leans, plumb = (softmax_over_one(leans=b) for b in (True, False))
        >>> "PB610" in codes(leans), "PB610" in codes(plumb)
        (True, False)

    References:
        Bridle (1990), Probabilistic interpretation of feedforward classification
        network outputs, section 3 (one output per class).
    """
    found = survey.inputs
    assert found is not None
    for act in found.acts:
        if "softmax" not in act.name:
            continue
        if act.over == "units" and act.size == 1:
            yield Finding(
                site=act.site,
                message="the softmax after {units} unit is 1, and its gradient 0, "
                "whatever the input"
                if act.name == "softmax"
                else "the logarithm of a softmax after {units} unit is 0, and its "
                "gradient 0, whatever the input",
                cause="it divides the one value by itself",
                evidence={"units": 1, "size": act.size},
                severity=None if act.ends else Severity.WARNING,
                remedy=_for_one(found, act),
            )
        elif act.over == "samples" and _by_row(survey, found, act):
            yield Finding(
                site=act.site,
                message="the softmax goes over the {size} samples of the batch, so "
                "that each output depends on the other samples",
                cause="its axis is that of the samples, not of the classes",
                evidence={"units": _units(survey, act), "size": found.samples},
                severity=Severity.WARNING,
                remedy=_for_samples(survey, act),
            )


def _by_row(survey: Survey, found: Inputs, act: Act) -> bool:
    """Return whether each sample of the batch has a target of its own."""
    targets = found.targets
    own = targets is not None and targets.kind in {"classes", "one-hot"}
    return own and 1 < found.samples != _units(survey, act)


def _units(survey: Survey, act: Act) -> int:
    return next((s.out for s in survey.sites if s.name == act.site), 0)


def _for_one(found: Inputs, act: Act) -> Remedy:
    if not (act.ends and act.module and act.name == "softmax"):
        return Remedy(
            advice="Let the softmax go over what is to be weighed; for one number use "
            "a sigmoid, or nothing."
        )
    targets = found.targets
    within = targets is not None and 0 <= targets.numbers.low <= targets.numbers.high
    within = within and targets is not None and targets.numbers.high <= 1
    new = "sigmoid" if within or targets is None else "identity"
    return Remedy(
        advice="Use a sigmoid in the place of the softmax."
        if new == "sigmoid"
        else "Leave the softmax out: the targets are no probabilities.",
        safety=Safety.CHANGES_TRAINING,
        act="set-activation",
        arguments={"module": act.module, "activation": new},
    )


def _for_samples(survey: Survey, act: Act) -> Remedy:
    advice = "Give the softmax the axis of the classes (dim=-1 or dim=1)."
    linear = any(s.name == act.site and s.kind == "linear" for s in survey.sites)
    if not (linear and act.module and act.name == "softmax"):
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="set-activation",
        arguments={"module": act.module, "activation": "softmax"},
    )
