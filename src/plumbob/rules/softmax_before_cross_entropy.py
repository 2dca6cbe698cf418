"""PB602: probabilities go into a loss that makes probabilities itself."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Loss, Needs, Remedy, Safety, Severity, Survey

_ONE = 1e-3  # rounding of a sum of probabilities, 16-bit ones too


@rule(
    "PB602",
    "softmax-before-cross-entropy",
    Needs.LOSS,
    Severity.WARNING,
    since="0.1",
    explains=("PB401", "PB404", "PB601", "PB606", "PB702", "PB711", "PB718"),
)
def softmax_before_cross_entropy(
    survey: Survey, *, lost_above: float = 0.1
) -> Iterator[Finding]:
    """The outputs are probabilities already, but the loss takes them for scores.

    Why:
        Cross-entropy on logits applies a softmax of its own, the loss with logits a
        sigmoid. Scores may be as large as a sure prediction needs, probabilities end
        at 1: after a second softmax over K units the right class has at most
        e / (e + K - 1), 73 % of two and 23 % of ten, and a sure no is sigmoid(0) = 1/2.
        The loss cannot come near its floor, and its slope passes the flat ends of two
        squashings: gradients shrink K-fold and more. What the loss wants is seen
        from its values: it keeps falling towards scores beyond 0 and 1. So a
        log-softmax, which a second softmax leaves alone, is no fault, nor is a softmax
        whose loss multiplies by a large number first.

    Evidence:
        exact: the loss of a perfect prediction, 1 at what the target names, 0 elsewhere
        (or the target shares themselves); best: that of perfect scores as large as
        need be; zero: that of outputs 0, which say nothing; lost = (exact - best) /
        (zero - best): the share of what there is to learn that stays out of reach.
        loss: of the model; units: of the output; samples; gain: the slope of the loss
        in the net input, as a share of what it is without the first squashing.

    Args:
        lost_above: share out of reach from which it is told. Digits in ten classes,
            validation accuracy after 40 epochs, 3 seeds: a share of 0.63 (softmax
            twice) ends at 0.26 instead of 0.96 with SGD, takes 2 to 8 times the epochs
            with momentum and 1.2 to 1.9 with Adam; 0.35 (scores doubled) 0.86 with SGD;
            0.07 (scores times 4) 1.3 to 1.7 times the epochs with SGD and none with
            Adam; 0.001 nothing. A sigmoid twice calls all odd digits even or the
            other way round for ever (0.52 instead of 0.97). Set in the gap after that.

    Remedy:
        Take the last softmax or sigmoid away and apply it where probabilities are
        wanted, outside of training (`plumbob.apply` does the first, where it is a
        module of its own); or keep it and let the loss take probabilities.

    Allow when:
        Never.

    Example:
        >>> from nets_loss import softmax_before_cross_entropy
        >>> from netting import codes
        >>> ["PB602" in codes(softmax_before_cross_entropy(leans=x)) for x in (1, 0)]
        [True, False]

    References:
        Bridle (1990), Probabilistic interpretation of feedforward classification
        network outputs. Goodfellow, Bengio and Courville (2016), Deep learning,
        section 6.2.2.3.
    """
    found = survey.loss
    assert found is not None
    kind = _probabilities(found)
    if kind is None or found.wants != "scores" or found.best is None:
        return
    if found.exact is None or found.zero is None or found.zero <= found.best:
        return
    lost = (found.exact - found.best) / (found.zero - found.best)
    if lost <= lost_above:
        return
    evidence = {
        "exact": found.exact,
        "best": found.best,
        "zero": found.zero,
        "lost": lost,
        "units": found.units,
        "samples": found.samples,
    }
    slope = ""
    if found.value is not None:
        evidence["loss"] = found.value
    if found.gain is not None:
        evidence["gain"] = found.gain
        slope = f"; behind the {kind} its slope is {{gain:.2g}} times what it would be"
    yield Finding(
        message=f"the output is a {kind}'s, and the loss applies one again: a perfect "
        "prediction costs {exact}, so {lost:.0%} of what there is to learn is out of "
        "reach",
        cause="the loss wants scores without bounds (it falls on to {best}) and gets "
        f"probabilities{slope}",
        evidence=evidence,
        remedy=_remedy(survey, kind),
    )


def _remedy(survey: Survey, kind: str) -> Remedy:
    advice = f"Take the last {kind} away, and apply it only where probabilities are "
    advice += "read."
    acts = survey.inputs.acts if survey.inputs else ()
    ends = [act for act in acts if act.ends]
    if not ends or ends[-1].name != kind or ends[-1].module is None:
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="set-activation",
        arguments={"module": ends[-1].module, "activation": "identity"},
    )


def _probabilities(found: Loss) -> str | None:
    """Return "softmax" or "sigmoid" where the outputs are its values."""
    if not 0 <= found.low <= found.high <= 1 + _ONE:
        return None
    if found.units > 1 and found.off <= _ONE:
        return "softmax"
    return "sigmoid" if found.link == "sigmoid" else None
