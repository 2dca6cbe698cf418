"""PB406: the first steps of gradient descent go into biases alone."""

from collections.abc import Iterator

from plumbob.progress import in_proportion, learnt
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Stage, Survey


@rule("PB406", "bias-growth", Needs.GRADIENTS, Severity.INFO, since="0.1")
def bias_growth(
    survey: Survey, *, share_above: float = 0.9, learnt_below: float = 0.1
) -> Iterator[Finding]:
    """Nearly all that the next steps would gain, biases would gain.

    Why:
        dL/db sums what comes back, dL/dw weighs it by x. Where |x| is far below 1
        (small inputs, or a signal that the depth has lost) gradient descent therefore
        moves b alone, and what b alone can learn is the targets' mean or shares. That
        phase is no fault by itself: it passes once the weights have grown, and a
        start at the prior (PB601) spares it. The share of the first-order gain
        lr |dL/dp|^2 that is due to biases is free of the units of the loss; it holds
        for steps in proportion to the gradient, not for those of Adam and its kin,
        which move each parameter alike: with such an optimiser it is not asked.

    Evidence:
        share: of the sum of squares of all gradients, that of maps' biases; ratio:
        root mean square of dL/db over that of dL/dW at the map whose bias's gradient
        is largest; db, dw the two; x, where it was measured, the root mean square of
        that map's input.

    Args:
        share_above: share from which it is told: the weights get less than a ninth of
            it. At the start of nets on pixels and on standardised data it was below
            a quarter.
        learnt_below: share of what the best constant leaves that has been learnt,
            from which that phase is over.

    Remedy:
        By hand: standardise what the map reads, or start the output's bias at the
        targets' mean or log-odds.

    Allow when:
        Only the biases are meant to learn.

    Example:
        >>> from netting import codes
        >>> from nets_gradients import bias_growth
        >>> codes(bias_growth(leans=True)) >= {'PB406'}
        True
        >>> 'PB406' in codes(bias_growth(leans=False))
        False

    References:
        X. Glorot and Y. Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks, section 3.1 (their hypothesis of the output's
        bias, which nets without any bias do not bear out).
    """
    progress = learnt(survey)
    biases = {s.bias: s for s in survey.sites if s.bias and s.kind != "norm"}
    sizes = {n: g.norm for n, g in survey.gradients.items() if not g.nonfinite}
    if (
        (survey.optimizer is not None and not in_proportion(survey))
        or (progress is not None and progress >= learnt_below)
        or survey.said is Stage.TRAINED
        or not any(n not in biases for n in sizes)
    ):
        return
    total = sum(size**2 for size in sizes.values())
    moved = sum(sizes.get(name, 0.0) ** 2 for name in biases)
    if not total or moved / total <= share_above:
        return
    site = max(biases.values(), key=lambda s: sizes.get(s.bias or "", 0.0))
    db, dw = (_rms(survey, name) for name in (site.bias or "", site.weight))
    if not dw:  # not small but cut off, which others explain
        return
    evidence: dict[str, int | float] = {
        "share": moved / total,
        "db": db,
        "dw": dw,
        "ratio": db / dw,
    }
    reading = survey.readings.get(site.name)
    x = reading.x if reading is not None else None
    if x is not None:
        evidence["x"] = float((x.var + x.mean**2).mean() ** 0.5)
    yield Finding(
        site=site.name,
        message="{share:.0%} of what the next steps gain goes into biases; here "
        "dL/db is {ratio:.3g} times dL/dW",
        cause="what this map reads is small"
        + (" (root mean square {x:.2g})" if x is not None else "")
        + ", so that at first only the targets' mean or shares are learnt",
        evidence=evidence,
        remedy=Remedy(
            advice="Standardise what this map reads, or start the output's bias at "
            "the targets' mean or log-odds.",
        ),
    )


def _rms(survey: Survey, name: str) -> float:
    """Return the root mean square of a parameter's gradient."""
    gradient, tensor = survey.gradients.get(name), survey.tensors.get(name)
    if gradient is None or tensor is None:
        return 0.0
    return gradient.norm / max(1, tensor.count) ** 0.5
