"""PB501: weight decay pulls biases and norm scales to zero."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


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
        weight_decay: the largest on any of them. groups: how many groups hold them.

    Remedy:
        Two groups: tensors with two or more axes with decay, the rest without.

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
        (group.weight_decay, [p for p in group.parameters if p in biases | scales])
        for group in survey.optimizer.groups
        if group.weight_decay > 0
    ]
    held = [(decay, names) for decay, names in held if names]
    if not held:
        return
    names = {name for _, group in held for name in group}
    yield Finding(
        message="weight decay of {weight_decay} pulls {biases} biases and {scales} "
        "norm scales to 0",
        cause="they share {groups} of the optimiser's groups with the weights",
        evidence={
            "biases": len(names & biases),
            "scales": len(names & scales),
            "weight_decay": max(decay for decay, _ in held),
            "groups": len(held),
        },
        remedy=Remedy(
            advice="Give the optimiser two groups: parameters with ndim >= 2 with the "
            "decay, all others with weight_decay=0."
        ),
    )
