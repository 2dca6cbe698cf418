"""PB604: targets that are not finite, name no unit, never vary or fit no input."""

from collections.abc import Iterator
from math import isfinite

from plumbob.progress import learnt
from plumbob.rule import rule
from plumbob.types import (
    Finding,
    Needs,
    Remedy,
    Severity,
    Stage,
    Survey,
    Targets,
)


@rule(
    "PB604",
    "bad-targets",
    Needs.INPUTS,
    Severity.ERROR,
    since="0.1",
    explains=(
        "PB208",
        "PB401",
        "PB402",
        "PB403",
        "PB601",
        "PB605",
        "PB606",
        "PB611",
        "PB612",
    ),
)
def bad_targets(
    survey: Survey,
    *,
    samples_above: int = 100,
    steps_above: int = 100,
    learnt_below: float = 0.05,
    power_above: float = 0.5,
) -> Iterator[Finding]:
    """Targets are not finite, name no unit, are all the same, or fit no input.

    Why:
        One target that is NaN or infinite makes the loss and all gradients so; where
        the loss stays finite it leaves such targets out, and nothing is said. Labels
        of several different values beyond the units (one alone is taken for the
        label that is left out) are counted as if they were others. Targets that are
        all the same have nothing to teach but a constant.

        Labels that were shuffled, or read in another order than the inputs, teach the
        constant too: a trained net that is no better than it, on data whose nearest
        neighbours agree no more than at random, may be of that kind. But a daily
        return that inputs explain to 2 %, and hard images early in training, look just
        the same: that x tells little of y is seen, why is not. Nor would another
        pairing that fits show it, as yesterday's target often is among today's inputs.
        So it is told as info, and explains nothing else away.

    Evidence:
        nonfinite, outside: how many targets are. low, high: of the targets; samples:
        how many were seen. neighbour: the squared difference between the targets of
        nearest neighbours, in units of what it is for shuffled targets; lucky: what
        shuffled ones stay above in 95 % of the shuffles, luckiest: in 99.9 %. learnt:
        the share of the best constant's loss that the model has taken away.

    Args:
        samples_above: a single value is a warning from so many samples on: a class
            of 3 % would have been among them (95 %). Of fewer it is told as info, and
            where the loss is not known to compare them with the outputs.
        steps_above: of the optimiser, from which a net counts as trained where the
            user did not say so. Digits nets leave the constant within 20 steps.
        learnt_below: share that such a net has learnt at most. Set after digits with
            shuffled labels had been memorised to 0.012 in 5 epochs, 0.035 in 15.
        power_above: `luckiest` must lie above it: neighbours that halve the
            difference would have been noticed.

    Remedy:
        Look at the targets as the loss gets them; leave out or mend what is broken,
        shuffle inputs and targets together.

    Allow when:
        The targets are random on purpose, as to see what a net can memorise.

    Example:
        >>> from nets_inputs import bad_targets
        >>> from netting import codes
        >>> leans, plumb = (bad_targets(leans=b) for b in (True, False))
        >>> "PB604" in codes(leans), "PB604" in codes(plumb)
        (True, False)

    References:
        Zhang et al. (2017), Understanding deep learning requires rethinking
        generalization, section 2 (what random labels do).
    """
    assert survey.inputs is not None
    found = survey.inputs.targets
    if found is None:
        return
    numbers, samples = found.numbers, found.numbers.samples
    loss = survey.about.get("loss")
    if numbers.nonfinite:
        if isinstance(loss, float) and not isfinite(loss):
            yield _finding(
                "{nonfinite} {nonfinite:target is|targets are} NaN or infinite, and so "
                "is the loss",
                "the targets themselves are not finite",
                {"nonfinite": numbers.nonfinite, "samples": samples},
                "Leave out or mend the targets that are not finite.",
            )
        return
    if found.outside_values > 1 and _classified(survey):
        yield _finding(
            "{outside} labels lie outside 0 to {last}: from {low} to {high}",
            "they name no unit of the output",
            {
                "outside": found.outside,
                "last": found.classes - 1,
                "low": numbers.low,
                "high": numbers.high,
            },
            "Number the classes from 0 to {last}, and widen the output if there are "
            "more.",
            Severity.WARNING,
        )
    if _constant(found) and samples > 1:
        yield _finding(
            "all {samples} targets are the same",
            "the data given hold one class or value only"
            if found.distinct > 1
            else "the data given hold the value {low} only",
            {"samples": samples, "low": numbers.low},
            "Give data of all classes or values; look for a filter or a cut of sorted "
            "data.",
            Severity.WARNING
            if samples >= samples_above and _compared(survey)
            else Severity.INFO,
        )
        return
    steps = survey.optimizer.steps if survey.optimizer else 0
    fits, output = survey.inputs.fits, survey.output
    trained = survey.said is Stage.TRAINED or steps >= steps_above
    if not trained or fits is None or output is None:
        return
    share = learnt(survey)
    independent = fits.neighbour > fits.lucky and fits.luckiest > power_above
    if share is not None and share < learnt_below and independent:
        yield _finding(
            "the trained model is no better than a constant ({learnt:.1%} learnt), and "
            "the nearest neighbours of {samples} inputs agree no more than shuffled "
            "labels do ({neighbour:.2f} of their difference)",
            "hardly anything of these labels can be told from the inputs, or the two "
            "are not in the same order: which one, this does not show",
            {
                "learnt": share,
                "samples": fits.samples,
                "neighbour": fits.neighbour,
                "lucky": fits.lucky,
                "luckiest": fits.luckiest,
            },
            "If more should be predictable, look at ten pairs: are inputs and targets "
            "in the same order?",
            Severity.INFO,
        )


def _finding(
    message: str,
    cause: str,
    evidence: dict[str, int | float],
    advice: str,
    severity: Severity | None = None,
) -> Finding:
    return Finding(
        message=message,
        cause=cause,
        evidence=evidence,
        remedy=Remedy(advice=advice),
        severity=severity,
    )


def _compared(survey: Survey) -> bool:
    """Return whether the loss is known to hold the outputs against the targets.

    That of a generator asks a critic, who is to take all that is made for real.
    """
    return survey.loss is not None and (
        survey.loss.wants is not None or survey.loss.targets in {"numbers", "levels"}
    )


def _classified(survey: Survey) -> bool:
    """Return whether the loss is known to take the targets for classes.

    Ages are whole numbers too, beside the two outputs of a mean and a deviation.
    """
    loss = survey.loss
    return loss is not None and (loss.wants is not None or loss.shift_free)


def _constant(found: Targets) -> bool:
    """Return whether every sample has the same target."""
    if not found.kind:
        return False
    sd = found.numbers.feature_sd
    return found.distinct == 1 or (sd is not None and not sd.any())
