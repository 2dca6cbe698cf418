"""PB611: targets lie outside what the last activation can give."""

from collections.abc import Iterator
from math import isfinite

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Reach, Remedy, Safety, Severity, Survey


@rule(
    "PB611",
    "output-range",
    Needs.INPUTS,
    Severity.ERROR,
    since="0.1",
    explains=("PB203", "PB401", "PB404", "PB601", "PB612", "PB702", "PB711", "PB718"),
)
def output_range(
    survey: Survey, *, lost_above: float = 0.05, hopeless_above: float = 0.5
) -> Iterator[Finding]:
    """Targets lie outside what the last activation can give.

    Why:
        A sigmoid gives 0 to 1, tanh -1 to 1, a ReLU nothing below 0, a softmax over n
        units a share. Where targets lie beyond, the best that any weights can do is
        the bound, towards which the activation saturates (or dies) while the error
        never goes. The range is that of the whole row of last activations, so that
        a ReLU before a sigmoid (0.5 to 1) counts too.

        Whether the loss wants its outputs to equal the targets is asked of the loss
        itself: it must be no higher at the targets than at the model's outputs, at
        the closest values in reach and at the targets' mean. A loss of logits is not,
        nor one of class numbers, and neither is judged.

    Evidence:
        outside: the share of the targets beyond the bounds; low, high: the bounds that
        there are. lost = (clipped - at_target) / (constant - at_target): what cannot
        be learnt of what there is to learn, by the loss of the closest values in
        reach, of the targets themselves and of their mean; above 1 the best in reach is
        worse than that mean.

    Args:
        lost_above: warns. For a squared error it is 1 - R2 of the best net there is:
            with 0.05 it stays below 0.95. A few outliers, the noise around a bound and
            smoothed labels lose far less.
            Standardised diabetes targets, 30 epochs, three seeds: behind tanh they lose
            0.10 and end at an R2 of 0.62 to 0.64 instead of 0.67 to 0.69, behind a ReLU
            0.42 and 0.40 to 0.44, behind a sigmoid 0.51 and 0.34.
        hopeless_above: an error: half of all and more is out of reach.

    Remedy:
        Leave the last activation out (`plumbob.apply` does where it is a module of its
        own and the only last one), or scale the targets into its range.

    Allow when:
        The targets beyond are wrong and meant to be clipped.

    Example:
        >>> from nets_inputs import output_range
        >>> from netting import codes
        >>> leans, plumb = (output_range(leans=b) for b in (True, False))
        >>> "PB611" in codes(leans), "PB611" in codes(plumb)
        (True, False)

    References:
        Bishop (2006), Pattern recognition and machine learning, section 5.2 (the
        output's activation follows from the targets' distribution).
    """
    assert survey.inputs is not None
    reach = survey.inputs.reach
    if reach is None or not reach.outside or not _wants_targets(reach):
        return
    learnable = reach.constant - reach.at_target
    missed = reach.clipped - reach.at_target
    lost = missed / learnable if learnable > 0 else 1.0
    if not lost > lost_above:
        return
    ends = [act for act in survey.inputs.acts if act.ends]
    bounds = {"low": reach.low, "high": reach.high}
    known = {name: value for name, value in bounds.items() if isfinite(value)}
    said = {"low": "at least {low}", "high": "at most {high}"}
    advice = "Leave out the last activation, or scale the targets into its range."
    alone = ends[0].module if len(ends) == 1 else None
    yield Finding(
        site=ends[-1].site,
        message="{outside:.0%} of the targets lie outside what the output can give ("
        + ", ".join(said[name] for name in known)
        + "): "
        + ("{lost:.0%} of" if lost <= 1 else "more than all of")
        + " what there is to learn is out of reach",
        cause=f"the output ends in {' and '.join(act.name for act in ends)}",
        evidence={
            "outside": reach.outside,
            "lost": lost,
            "clipped": reach.clipped,
            "at_target": reach.at_target,
            "constant": reach.constant,
        }
        | known,
        severity=None if lost > hopeless_above else Severity.WARNING,
        remedy=Remedy(
            advice=advice,
            safety=Safety.CHANGES_TRAINING,
            act="set-activation",
            arguments={"module": alone, "activation": "identity"},
        )
        if alone
        else Remedy(advice=advice),
    )


def _wants_targets(reach: Reach) -> bool:
    others = (reach.model, reach.clipped, reach.constant)
    return all(isfinite(value) for value in (reach.at_target, *others)) and (
        reach.at_target <= min(others)
    )
