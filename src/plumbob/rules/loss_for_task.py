"""PB612: a loss for numbers on targets that are classes, or one that sees nothing."""

from collections.abc import Iterator

from plumbob.progress import in_proportion, learnt
from plumbob.rule import rule
from plumbob.types import Finding, Loss, Needs, Remedy, Severity, Survey

_CLASSES = {"classes", "one-hot", "binary"}


@rule(
    "PB612",
    "loss-for-task",
    Needs.LOSS,
    Severity.ERROR,
    since="0.1",
    explains=("PB401", "PB601"),
)
def loss_for_task(
    survey: Survey,
    *,
    gain_below: float = 0.1,
    too_long_above: float = 4.0,
    learnt_below: float = 0.5,
) -> Iterator[Finding]:
    """The loss is made for another kind of target than these.

    Why:
        Squared or absolute error on classes trains well on scores, as a regression on
        zeros and ones. Behind a softmax its slope in the net input is multiplied by
        the softmax's own, diag(p) - p p': where all K classes have 1/K that is 2 / K^2
        of cross-entropy's, 1/50 for ten, and where a class is all but excluded it is
        next to nothing, however wrong that is. Adam and its kin do not mind the size
        of a gradient; SGD does, unless its learning rate makes up for it.

        A categorical loss over one unit divides it by itself: it is the same for every
        output, so that nothing is learnt at all. Whole numbers from 0 on as the target
        of one unit may be amounts; if they name classes, the error depends on the
        order in which these are numbered.

    Evidence:
        gain: the slope of the loss in the net input of the output as a share of what
        cross-entropy's is at the same outputs, both as they are reduced; length: the
        curvature along the first steps of the optimiser, in units of what would make
        a step just end at the bottom (lr times curvature, for SGD), on a copy; instead
        = length / gain: what it would be with cross-entropy at the same rate, whose
        slope and curvature are larger alike; levels: different targets; units;
        samples.

    Args:
        gain_below: a warning below it, where SGD steps in proportion to the gradient.
            A tenth is more than learning rates for one loss differ.
        too_long_above: and only where cross-entropy's steps at the same rate would
            stay below this length, so that nothing keeps them from being so much
            longer: a parabola takes 2 of SGD and 2 (1 + momentum) with momentum,
            never 4. Set after lengths of one convolutional net on digits, which
            fails so, had been seen (1.3 to 9.3). Digits, softmax and squared error
            against cross-entropy at the same rate of SGD, 40 epochs, 3 seeds: 0.15
            against 0.96 at a rate of 0.05, 0.40 at 0.1, with a momentum of 0.9 besides
            4 to 5 times the epochs; at 1, too long for cross-entropy (0.14), 0.96.
            With Adam as many epochs.
        learnt_below: share learnt from which it has evidently made up for it.

    Remedy:
        Take cross-entropy on the logits of classes, the loss with logits on zeros and
        ones, by hand: the loss is not the model's. Or another optimiser.

    Allow when:
        The Brier score itself is what you want, or the whole numbers are amounts.

    Example:
        >>> from nets_loss import loss_for_task
        >>> from netting import codes
        >>> ["PB612" in codes(loss_for_task(leans=x)) for x in (1, 0)]
        [True, False]

    References:
        Golik, Doetsch and Ney (2013), Cross-entropy vs. squared error training. Hui
        and Belkin (2021), Evaluation of neural architectures trained with square loss
        vs cross-entropy in classification tasks.
    """
    found = survey.loss
    assert found is not None
    evidence: dict[str, int | float] = {
        "levels": found.levels,
        "units": found.units,
        "samples": found.samples,
    }
    if found.blind and found.units == 1 and found.scale_free:
        yield Finding(
            message="the loss is the same for every output, so nothing is learnt",
            cause="it takes the shares of {units} {units:unit|units}, which are 1 "
            "whatever comes out",
            evidence=evidence,
            remedy=Remedy(
                advice="Take a binary loss on the one unit, or give the output one "
                "unit for each class."
            ),
        )
    elif found.targets == "levels" and _lowest_at_targets(found):
        yield Finding(
            message="the targets of one unit are {levels} whole numbers from 0 on",
            cause="where they name classes, a regression depends on how these are "
            "numbered",
            evidence=evidence,
            severity=Severity.INFO,
            remedy=Remedy(
                advice="If they are classes, give the output one unit for each and "
                "take cross-entropy."
            ),
        )
    elif found.wants == "numbers" and found.targets in _CLASSES:
        yield _regression(
            survey, found, evidence, gain_below, too_long_above, learnt_below
        )


def _regression(
    survey: Survey,
    found: Loss,
    evidence: dict[str, int | float],
    gain_below: float,
    too_long_above: float,
    learnt_below: float,
) -> Finding:
    cause = "it is a regression on zeros and ones"
    advice = "Take cross-entropy on the logits."
    slow = False
    if found.gain is not None:
        evidence["gain"] = found.gain
        cause = f"behind the {found.link} its slope is {{gain:.2g}} times that of "
        cause += "cross-entropy"
        advice = f"Take cross-entropy on the logits, without the last {found.link}."
    if found.gain and survey.step and survey.step.curvature and in_proportion(survey):
        length = survey.step.curvature
        evidence |= {"length": length, "instead": length / found.gain}
        so_far = learnt(survey)
        slow = found.gain < gain_below and length / found.gain <= too_long_above
        slow = slow and (so_far is None or so_far < learnt_below)
    if slow:
        cause += ", and SGD's steps are so much shorter ({length:.2g} of one to the "
        cause += "bottom instead of {instead:.2g})"
    return Finding(
        message="the targets are classes, but the loss is one for numbers",
        cause=cause,
        evidence=evidence,
        severity=Severity.WARNING if slow else Severity.INFO,
        remedy=Remedy(advice=advice),
    )


def _lowest_at_targets(found: Loss) -> bool:
    values = (found.exact, found.constant, found.zero)
    return None not in values and min(v for v in values if v is not None) == found.exact
