"""PB609: the loss wants probabilities, or their logarithms, and gets other numbers."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Loss, Needs, Remedy, Safety, Severity, Survey

_ONE = 1e-3  # rounding of a sum of probabilities, 16-bit ones too
_BOUND = {"sigmoid", "softmax"}


@rule(
    "PB609",
    "logits-into-probability-loss",
    Needs.LOSS,
    Severity.ERROR,
    since="0.1",
    explains=(
        "PB201",
        "PB208",
        "PB401",
        "PB402",
        "PB403",
        "PB404",
        "PB601",
        "PB611",
    ),
)
def logits_into_probability_loss(
    survey: Survey, *, stuck_above: float = 0.5
) -> Iterator[Finding]:
    """The loss takes logarithms of the outputs, which are no probabilities.

    Why:
        -log p knows what to do between 0 and 1. At 0 and below it is NaN or, where it
        is clamped, flat: such a sample has no slope, whatever the loss, and nothing
        leads it back. Above 1 it is flat or pays for more than certainty. Where only
        the right class is read, minus its logarithm, all outputs at 1 are as good as
        a perfect prediction unless they have to sum to one. A loss that is given
        log-probabilities reads them as they are: of logits it falls without an end,
        of probabilities it rewards p itself, not log p, and sees least of the samples
        that are most wrong. What the loss wants is seen from its values; that it
        divides by the sum itself excuses any positive outputs.

    Evidence:
        low, high: of the outputs; outside: the share of them not in 0 to 1; off: how
        far a sample's are from summing to one at most (their exponentials, if the loss
        wants logarithms); stuck: the share of samples without any slope on the wrong
        side of the target; broken: of those whose slope is not finite; units;
        samples.

    Args:
        stuck_above: the share of stuck samples from which it is an error, as most of
            the data teach nothing then. It is one too where loss or slope is not
            finite, as one NaN is enough to break all weights, where outputs that all
            are 1 cost no more than the targets, or logits are read as logarithms.
            Digits, 30 epochs with SGD, 3 seeds, accuracy instead of 0.95: a ReLU or
            logits into cross-entropy on shares 0.10, sigmoids into the logarithm of
            the right class 0.14, logits into one that wants logarithms 0.11,
            probabilities into it 0.24; odd or even by logits or a ReLU 0.51, by a
            tanh 0.83. With Adam the same but for the last four: probabilities take
            1.3 to 2.3 times the epochs, one unit without a sigmoid as many.

    Remedy:
        Put a softmax behind the last map, or a sigmoid where each unit is its own
        question, in the place of the activation that is there (`plumbob.apply` does,
        where the place is a module of its own or follows a map in a
        `nn.Sequential`); where logarithms are wanted, a log-softmax. Or
        use the loss that takes logits.

    Allow when:
        Never.

    Example:
        >>> from nets_loss import logits_into_probability_loss
        >>> from netting import codes
        >>> ["PB609" in codes(logits_into_probability_loss(leans=x)) for x in (1, 0)]
        [True, False]

    References:
        Bishop (2006), Pattern recognition and machine learning, section 4.3.
        Wardat, Le and Rajan (2021), DeepLocalize.
    """
    found = survey.loss
    assert found is not None
    if found.wants == "log-probabilities":
        told = _no_logarithms(found)
    elif found.wants == "probabilities" and _beyond(found):
        told = _no_probabilities(found, stuck_above)
    elif found.wants == "probabilities" and _unshared(found):
        told = (
            "the loss reads only the unit of the right class, and the outputs need not "
            "sum to one (up to {off} off): all at 1 cost no more than a perfect "
            "prediction",
            f"each output is a {found.link or 'number'} of its own, so that no unit is "
            "ever held down",
            None,
        )
    else:
        return
    if told is None:
        return
    message, cause, severity = told
    yield Finding(
        message=message,
        cause=cause,
        evidence={
            "low": found.low,
            "high": found.high,
            "outside": found.outside,
            "off": found.off,
            "stuck": found.flat,
            "broken": found.broken,
            "units": found.units,
            "samples": found.samples,
        },
        severity=severity,
        remedy=_remedy(survey, found),
    )


def _no_logarithms(found: Loss) -> tuple[str, str, Severity | None] | None:
    if found.units == 1 or found.off <= _ONE:
        return None
    shares = 0 <= found.low <= found.high <= 1 + _ONE
    return (
        "the loss reads the outputs, from {low} to {high}, as log-probabilities",
        "they are probabilities, so that the loss rewards p instead of log p"
        if shares
        else "they are free to grow, and the loss falls with them without an end",
        Severity.WARNING if shares else None,
    )


def _no_probabilities(
    found: Loss, stuck_above: float
) -> tuple[str, str, Severity | None]:
    message = "the loss wants probabilities, but the outputs run from {low} to {high}"
    not_finite = found.broken > 0 or found.value is None
    if found.value is None:
        message += ", where it is not finite"
    elif found.broken:
        message += "; the slope of {broken:.0%} of the samples is not finite"
    elif found.flat:
        message += "; {stuck:.0%} of the samples are wrong and without any slope"
    return (
        message,
        f"nothing keeps them ({found.link or 'of no known activation'}) between 0 and "
        "1",
        None if not_finite or found.flat > stuck_above else Severity.WARNING,
    )


def _remedy(survey: Survey, found: Loss) -> Remedy:
    if found.wants == "log-probabilities":
        return Remedy(
            advice="End the model in a log-softmax, or take cross-entropy on logits."
        )
    end = "sigmoid" if found.units == 1 or found.targets == "binary" else "softmax"
    advice = f"End the model in a {end}, or take the loss that wants logits."
    acts = survey.inputs.acts if survey.inputs else ()
    ends = [act for act in acts if act.ends]
    module = found.site if found.link == "identity" else None
    if ends:
        module = ends[-1].module
    if module is None or (end == "softmax" and found.positions > 1):
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="set-activation",
        arguments={"module": module, "activation": end},
    )


def _beyond(found: Loss) -> bool:
    """Say whether outputs are not between 0 and 1, or nothing keeps them there.

    A loss that divides by the sum takes all that are positive.
    """
    if found.link in _BOUND:
        return False
    if found.normalises:
        return found.low <= 0 or found.link in {"identity", "relu", "tanh"}
    return found.outside > 0 or found.link is not None


def _unshared(found: Loss) -> bool:
    """Say whether outputs all at 1 cost no more than the targets themselves."""
    if found.units == 1 or found.normalises or found.off <= _ONE:
        return False
    if found.ones is None or found.exact is None or found.constant is None:
        return False
    return found.ones <= found.exact + _ONE * abs(found.constant - found.exact)
