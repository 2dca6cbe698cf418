"""PB501: weight decay pulls biases and norm scales to zero."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Safety, Severity, Survey


@rule("PB501", "decayed-bias", Needs.OPTIMIZER, Severity.INFO, since="0.1")
def decayed_bias(survey: Survey) -> Iterator[Finding]:
    """Biases or norm scales lie in a group with weight decay.

    Why:
        Decay on W limits how fast z can vary with x. A bias only moves the threshold:
        decaying it prefers thresholds at 0, or at w.mu where x is not centred, which
        the task does not ask for, and at the output it pulls the prediction towards
        an even one. A norm's scale is pulled towards switching its unit off. In most
        trainings the loss is small, and `AdamW(model.parameters())` does it to every
        bias, so it is no more than info, and any decay above 0 counts.

    Evidence:
        biases, scales: how many tensors of each are decayed.
        weight_decay: the largest on any of them. groups: how many groups hold them;
        shared: how many of these hold other parameters as well.

    Remedy:
        A group of their own without decay. Where they have groups of their own
        already: weight_decay=0 there, since torch gives a group that does not say so
        the default of its optimiser (AdamW: 0.01). `plumbob.apply` does both in the
        optimiser that it is given; `plumbob.design.groups` for one to be made.

    Allow when:
        The decay is meant: some penalised models centre their inputs and want it.

    Example:
        >>> from nets import codes, decayed_bias
        >>> codes(decayed_bias(leans=True)), codes(decayed_bias(leans=False))
        ({'PB501'}, set())

    References:
        Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning,
        section 3.4.1 (the intercept is left out of the penalty).
        Goodfellow, Bengio and Courville (2016), Deep Learning, section 7.1.
    """
    biases = {site.bias for site in survey.sites if site.bias}
    scales = {site.weight for site in survey.sites if site.kind == "norm"}
    assert survey.optimizer is not None
    held = [
        group
        for group in survey.optimizer.groups
        if group.weight_decay > 0 and not (biases | scales).isdisjoint(group.parameters)
    ]
    if not held:
        return
    names = {name for group in held for name in group.parameters}
    shared = sum(not biases | scales >= set(group.parameters) for group in held)
    yield Finding(
        message="weight decay of {weight_decay} pulls "
        + " and ".join(
            told
            for some, told in (
                (biases, "{biases} {biases:bias|biases}"),
                (scales, "{scales} norm {scales:scale|scales}"),
            )
            if names & some
        )
        + " to 0",
        cause="the optimiser holds them together with the weights"
        if shared == len(held)
        else "{groups:a group|groups} of their own {groups:has|have} a decay as well"
        if not shared
        else "{shared} of their {groups} groups {shared:holds|hold} the weights too, "
        "and the others have a decay as well",
        evidence={
            "biases": len(names & biases),
            "scales": len(names & scales),
            "weight_decay": max(group.weight_decay for group in held),
            "groups": len(held),
            "shared": shared,
        },
        remedy=Remedy(
            advice="Give the optimiser a group of its own for biases and norm scales, "
            "with weight_decay=0."
            if shared
            else "Set weight_decay=0 in {groups:this group|these groups}.",
            safety=Safety.CHANGES_TRAINING,
            act="split-groups",
            arguments={"parameters": tuple(sorted(names & (biases | scales)))},
        ),
    )
