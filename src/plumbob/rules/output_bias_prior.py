"""PB601: the output's bias is not where the targets are."""

from collections.abc import Iterator

import numpy as np

from plumbob.remedies import shift_bias
from plumbob.rule import rule
from plumbob.types import (
    Finding,
    Needs,
    Output,
    Remedy,
    Severity,
    Site,
    Stage,
    Survey,
)


@rule("PB601", "output-bias-prior", Needs.TARGETS, Severity.WARNING, since="0.1")
def output_bias_prior(
    survey: Survey,
    *,
    untrained_above: float = 0.5,
    slow_above: float = 5.0,
    trained_above: float = 0.05,
) -> Iterator[Finding]:
    """A constant added to the output alone would save much of the loss.

    Why:
        The best constant of the output, the prior, needs no learning: log(p / (1 - p))
        for a rate p, the mean for squared error, found here through the loss itself.
        A net that starts elsewhere first spends its steps on carrying the output
        there, through all its weights. After training the mean prediction must agree
        with the targets; if a shift still saves loss, it does not. Only the user
        knows that training is over: where an optimiser has merely stepped, a shift
        may be due until the next step, and is told as info.

        Gains are measured in the loss that the best constant leaves to be learnt,
        down to its floor, the loss of the best output for each sample by itself. That
        makes them free of the units and the origin of targets and loss: 0.63 nats
        against 0.06 at a rate of 1 %, 2500 against 1 at a target of 50 +- 1. Where
        there is no floor (densities) half the dispersion, samples * chance / 2, takes
        its place if it is larger than the loss; for squared error all are the same.

        What so few samples show by chance is taken off first. Where no shift is due
        the gain is chi^2_k chance / (2 k) for k units: chance / 2 on average, more
        than chance in one of six sets for one unit, so that its 99.9 % quantile is
        taken (Wilson and Hilferty's cube).

    Evidence:
        loss, shifted: the loss of the model, and after the best shift of its output.
        zero, constant: that of an output of 0, and of the best constant.
        scale: what the best constant leaves to be learnt.
        gain = loss - shifted; chance: what such a shift gains and loses by chance on
        average, luck: what its gain stays below by chance in 999 of 1000 sets;
        share = (gain - luck) / scale; prior: the same share for an output of 0;
        units: of the output; samples; shift: the largest, at `unit`, of the
        `targeted` units: those that occur in the targets.

    Args:
        untrained_above: share and prior from which an untrained output is told of. A
            net whose random start is merely off, with nothing to encode (balanced
            classes), has a prior of 0. At a share of 0.15-0.4 (rate 20-30 %) nets with
            the right bias were at most 1.2-1.5 times as fast: silent.
        slow_above: the same for a warning. Steps or epochs without the right bias
            against with it, small nets, mostly Adam: 1.2-1.8 at a share of 1 (mean of
            one deviation), 1.5-2 at 1.2 (rate 10 %), 2-4 at 0.6-2.2 (autoencoders of
            digits), 2.2-4 at 3.9 (mean of two deviations) but 1.2 on diabetes at the
            same 3.9, and 1.0-2.1 with plain SGD; over 5, or never, at 11 (rate 1 %)
            and 2500 (mean 50, deviation 1). Between 1 and 5 the cost thus depends on
            the net, and some that pay it are told by a note only. 5 was set in that
            gap after nets known to be healthy had been warned at 1.3 and 3.9; it has
            not been measured itself.
        trained_above: share where the map is trained. 5 % of the loss of knowing
            nothing is above what noisy last steps leave, and can be had for nothing.
            A warning where the user said "trained". Measured after 1 to 4 of 8 epochs
            of healthy nets: shares of 5 to 29 %, gone at the end.

    Remedy:
        Add the shift to the output's bias, where it has one of its own
        (`plumbob.apply` does). No shift is due at a class or label that the data given
        do not hold.

    Allow when:
        The shares in the data given here are not those of training, on purpose.

    Example:
        >>> from nets import codes, output_bias_prior
        >>> codes(output_bias_prior(leans=True)), codes(output_bias_prior(leans=False))
        ({'PB601'}, set())

    References:
        Lin et al. (2017), Focal loss for dense object detection, section 4.1.
        Steyerberg (2019), Clinical prediction models, section 15.3
        (calibration-in-the-large).
    """
    found = survey.output
    assert found is not None
    site = next((s for s in survey.sites if s.name == found.site), None)
    finished = survey.said is Stage.TRAINED
    trained = finished or (site is not None and site.stage is Stage.TRAINED)
    scale = max(found.constant, found.samples * found.chance / 2)
    if found.floor is not None:
        scale = found.constant - found.floor
    if scale <= 0:
        return
    spread = 2 / (9 * len(found.shift))
    luck = found.chance / 2 * (1 - spread + 3.09 * spread**0.5) ** 3
    share = (found.loss - found.shifted - luck) / scale
    prior = (found.zero - found.constant - luck) / scale
    slow = min(share, prior) > slow_above
    if share <= trained_above if trained else min(share, prior) <= untrained_above:
        return
    targeted = _targeted(found)
    unit = max(targeted, key=lambda i: abs(found.shift[i]))
    yield Finding(
        site=found.site,
        message="a constant added to the output takes the loss from {loss} to {shifted}"
        + ("" if trained else "; the best constant alone has {constant}"),
        cause="the output starts far from the targets' mean or shares"
        if not trained
        else "the mean prediction does not agree with the targets"
        + ("" if finished else ", which is common until training is over"),
        evidence={
            "loss": found.loss,
            "shifted": found.shifted,
            "zero": found.zero,
            "constant": found.constant,
            "gain": found.loss - found.shifted,
            "chance": found.chance,
            "luck": luck,
            "scale": scale,
            "share": share,
            "prior": prior,
            "units": len(found.shift),
            "targeted": len(targeted),
            "samples": found.samples,
            "unit": unit,
            "shift": float(found.shift[unit]),
        },
        severity=None if finished or slow else Severity.INFO,
        remedy=_remedy(survey, site, found, targeted),
    )


def _remedy(
    survey: Survey, site: Site | None, found: Output, targeted: list[int]
) -> Remedy:
    advice = _advice(
        has_bias=site is not None and site.bias is not None,
        units=len(found.shift),
        targeted=len(targeted),
    )
    if site is None or site.out != len(found.shift):
        return Remedy(advice=advice)
    named = np.isin(np.arange(site.out), targeted)
    return shift_bias(survey, site, advice, named, found.shift)


def _targeted(found: Output) -> list[int]:
    """Return the units that occur in the targets; all where that cannot be said."""
    target = found.mean_target
    every = range(len(found.shift))
    if target is None or len(target) != len(every):
        return list(every)
    return [i for i in every if target[i] != 0] or list(every)


def _advice(*, has_bias: bool, units: int, targeted: int) -> str:
    where = "the output's bias" if has_bias else "the output, as a bias"
    if units == 1:
        return f"Add {{shift:+.4g}} to {where}."
    which = "unit by unit"
    if targeted < units:
        which = "at the {targeted} units of {units} that the targets name"
    largest = "({shift:+.4g} at unit {unit})"
    return (
        f"Add the shift, survey.output.shift or output.shift in the JSON report, to "
        f"{where}, {which} {largest}."
    )
