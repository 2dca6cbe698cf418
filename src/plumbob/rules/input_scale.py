"""PB603: inputs or targets are far too large, too small or too unequal."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import isfinite, prod
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from plumbob.progress import learnt
from plumbob.remedies import standardise
from plumbob.rule import rule
from plumbob.types import Finding, Moments, Needs, Remedy, Severity, Site, Survey

INPUTS = "Standardise the inputs by the training data's mean and deviation."
MAPS = frozenset(("linear", "conv", "conv-transpose"))


@rule(
    "PB603",
    "input-scale",
    Needs.ACTIVATIONS | Needs.INPUTS,
    Severity.WARNING,
    since="0.1",
    explains=(
        "PB201",
        "PB203",
        "PB204",
        "PB205",
        "PB206",
        "PB207",
        "PB208",
        "PB401",
        "PB402",
        "PB404",
        "PB503",
        "PB601",
        "PB702",
        "PB703",
        "PB704",
        "PB711",
        "PB718",
    ),
)
def input_scale(
    survey: Survey,
    *,
    louder_above: float = 10.0,
    targets_above: float = 100.0,
    length_below: float = 0.1,
    unequal_above: float = 1000.0,
    learnt_above: float = 0.5,
    soon_above: float = 0.1,
) -> Iterator[Finding]:
    """Inputs or targets are far too large, too small or too unequal in scale.

    Why:
        Initial weights and learning rates are made for inputs and outputs of a size
        near 1. A net hands its inputs' size on: inputs of 100 make outputs of 10 and
        more, all of which must be unlearnt before anything is learnt, and curvature
        grows with the square of x, so that plain steps diverge. Inputs of 0.01 move
        nothing: the gradient of the first weights is as small as x. Of features that
        differ a thousand times in size the small ones are seen a thousand times less.
        Targets of size 1000 lie 1000 steps of the weights away; those of 0.01 lie
        below the noise of the first outputs.

        So the size that counts is that of outputs against targets, not a range such
        as -1 to 1: large inputs with targets as large, tanh units that bound them, or
        a norm that rescales them, do no harm and are not told of. Nor is a net that
        has learnt in spite of it. What a scale costs is the distance over the speed:
        where the first steps of the optimiser, tried on a copy, already lead well below
        the best constant output, learning rate and scale fit, and it is a note.

    Evidence:
        All of inputs is of what the first map reads, per feature or channel; of several
        maps that of the one best off, but for `size`. size: root mean square; output:
        standard deviation of the outputs as the loss reads them, of their net input
        where these are probabilities; target: that of the targets, 1 for classes;
        louder = output / target. length: the root of the features' summed variance.
        unequal: the largest standard deviation of a feature (`feature`) over the
        median one.
        learnt: the share of what there is to learn that is learnt, where known; soon:
        the same after the first steps on the copy, on one batch.

    Args:
        louder_above: of outputs where the inputs are at least as large, or the targets
            at most a tenth. Measured on digits, two hidden layers: inputs of 30 make
            outputs of 3 and cost nothing (Adam), 100 and 10 cost 2.7 times the epochs
            (ReLU, Adam) or diverge (ReLU, SGD). Diabetes targets of 0.1 cost nothing,
            of 0.01 6 to 35 times the epochs (Adam) or fail (SGD).
        targets_above: size of regression targets over that of the outputs (or 1).
            At 10 2 to 3 times the epochs on diabetes (Adam), at 30 3 to 10, at 100 4 to
            39, and SGD diverges with ReLU from 30 on. 100 leaves out what some
            healthy nets with long trainings have.
        length_below: of inputs without a norm behind them. Digits scaled to a
            length of 0.8 need 2.5 to 3 times the epochs (Adam), of 0.08 they end at
            0.73 to 0.83 instead of 0.92 (Adam) or learn nothing (SGD). A unit vector,
            as an embedding or a one-hot code is, has 1.
        unequal_above: likewise. With one feature of 64 thus scaled nets with Adam
            need twice the epochs or more, and SGD learns nothing; at 100 some do not
            notice.
        learnt_above: share from which on nothing is told.
        soon_above: share on the copy from which on it is a note. Targets of 1500 with
            Adam at a rate of 0.2 are learnt as fast as standardised ones; where the
            scale does harm, the steps end above the constant's loss or within 1 % of
            it, no more than a batch differs from all. Set after seeing these.

    Remedy:
        Standardise inputs, and targets of a regression, by the mean and standard
        deviation of the training data. `plumbob.apply` lets the layer that reads the
        inputs do so itself, by buffers `input_mean` and `input_scale` of what was
        measured (a feature that never varied is scaled as the median one); by hand
        where several maps read them. Digits nets (10 epochs, 3 seeds each) whose inputs
        were 1600 times or a hundredth of pixels, or one feature of which was 10,000
        times larger, end at 0.26 to 0.88 (Adam) and 0.08 to 0.16 (SGD) without it, with
        it at 0.94 to 0.97. Targets are scaled by hand; undo it behind the
        output.

    Allow when:
        The weights were made for this scale, or the learning rate was.

    Example:
        >>> from nets_inputs import input_scale
        >>> from netting import codes
        >>> leans, plumb = (input_scale(leans=b) for b in (True, False))
        >>> "PB603" in codes(leans), "PB603" in codes(plumb)
        (True, False)

    References:
        LeCun, Bottou, Orr and Müller (1998), Efficient BackProp, section 4.3.
    """
    assert survey.inputs is not None
    share = learnt(survey)
    if share is not None and share > learnt_above:
        return
    soon = _soon(survey)
    known = {"learnt": share, "soon": soon}
    known = {name: value for name, value in known.items() if value is not None}
    severity = Severity.INFO if (soon or 0.0) >= soon_above else None
    given = survey.inputs.given
    first = [s for s in survey.sites if s.kind in MAPS and s.reads_input]
    read = {s: x for s in first if (x := _read(survey, s)) is not None}
    seen = _seen(survey)
    if (
        len(given) == 1
        and 0 < len(read) == len(first)
        and not any(site.norm for site in first)
    ):
        sizes = {s: np.sqrt((x.var + x.mean**2).mean()) for s, x in read.items()}
        largest = max(first, key=sizes.__getitem__)
        size = float(sizes[largest])
        if seen and size >= louder_above and seen.louder >= louder_above:
            yield _finding(
                survey,
                largest,
                "outputs are {louder:.0f} times as large as the targets ask for, as "
                "the inputs are of size {size}",
                "the inputs are too large for the initial weights",
                {"size": size, **seen.numbers, **known},
                severity=severity,
            )
            return
        if not any(site.kind == "norm" for site in survey.sites):
            spread = {s: _spread(x, prod(given[0].shape)) for s, x in read.items()}
            yield from _small_or_unequal(survey, spread, length_below, unequal_above)
    if seen is None or not seen.real:
        return
    if seen.bare and seen.target >= targets_above * max(seen.output, 1.0):
        yield _finding(
            survey,
            None,
            "the targets have a standard deviation of {target}, the outputs of "
            "{output}",
            "the targets are too large for the initial weights",
            seen.numbers | known,
            "Standardise the targets, and undo it behind the output.",
            severity,
        )
    elif seen.target <= 1 / louder_above and seen.louder >= louder_above:
        yield _finding(
            survey,
            None,
            "the outputs vary {louder:.0f} times as much as the targets, whose "
            "standard deviation is {target}",
            "the targets are too small for the initial weights",
            seen.numbers | known,
            "Standardise the targets, and undo it behind the output.",
            severity,
        )


def _soon(survey: Survey) -> float | None:
    """Return what share the first steps on the copy learn of their batch."""
    step, found, loss = survey.step, survey.output, survey.loss
    if step is None or len(step.losses) < 2 or found is None or loss is None:
        return None
    if loss.reduction == "other" or not isfinite(step.losses[-1]):
        return None
    last = step.losses[-1] / (step.samples if loss.reduction == "sum" else 1)
    return learnt(replace(survey, output=replace(found, loss=last)))


class _Seen(NamedTuple):
    """How large the outputs are, and the targets.

    `bare`: the outputs are seen to be the last map's own, so that a step of its
    weights is one of theirs. A model may put them in the targets' units itself.
    """

    output: float
    target: float
    real: bool
    bare: bool

    @property
    def louder(self) -> float:
        return self.output / self.target

    @property
    def numbers(self) -> dict[str, int | float]:
        return {"output": self.output, "target": self.target, "louder": self.louder}


def _seen(survey: Survey) -> _Seen | None:
    """Return the sizes of outputs and targets, where they can be told."""
    assert survey.inputs is not None
    targets = survey.inputs.targets
    heads = [s for s in survey.sites if s.is_output and s.kind in MAPS]
    reading = survey.readings.get(heads[0].name) if len(heads) == 1 else None
    if targets is None or not targets.kind or reading is None or reading.z is None:
        return None
    if targets.numbers.nonfinite or reading.z.nonfinite.any():
        return None
    linked = any(act.ends for act in survey.inputs.acts)
    loss = survey.loss
    wants = loss.wants if loss else None  # scores may differ in size
    real = targets.kind == "real" and not linked and wants in {None, "numbers"}
    real &= loss is None or not loss.shift_free
    if not real:
        z = float(np.sqrt(reading.z.var.mean()))
        if loss and loss.wants == "scores" and loss.link is None:  # a temperature
            z = loss.sd
        return _Seen(z, 1.0, real, bare=False)
    if loss is None or targets.numbers.sd <= 0:
        return None
    bare = loss.link == "identity" and (loss.low, loss.high) != (0.0, 0.0)
    return _Seen(loss.sd, targets.numbers.sd, real, bare)


def _small_or_unequal(
    survey: Survey,
    spread: Mapping[Site, Float[Any, " features"]],
    length_below: float,
    unequal_above: float,
) -> Iterator[Finding]:
    """Judge the map that is best off: what one of them sees is not lost."""
    lengths = {site: float(np.sqrt((sd**2).sum())) for site, sd in spread.items()}
    site = max(spread, key=lengths.__getitem__)
    if 0 < lengths[site] <= length_below:
        yield _finding(
            survey,
            site,
            "the inputs vary by {length} in all: hardly anything reaches the first map",
            "the inputs are too small for the initial weights and the steps",
            {"length": lengths[site]},
        )
    ratios = {site: _ratio(sd[sd > 0]) for site, sd in spread.items()}
    site = min(spread, key=ratios.__getitem__)
    if ratios[site] >= unequal_above:
        yield _finding(
            survey,
            site,
            "feature {feature} varies {unequal:,.0f} times as much as the median one",
            "the features have units of their own",
            {"unequal": ratios[site], "feature": int(spread[site].argmax())},
        )


def _ratio(sd: Float[Any, " varied"]) -> float:
    return float(sd.max() / np.median(sd)) if len(sd) > 1 else 1.0


def _spread(x: Moments, size: int) -> Float[Any, " features"]:
    """Return deviations, that of a channel as often as it has places."""
    return np.repeat(x.sd, max(size // len(x.sd), 1))


def _read(survey: Survey, site: Site) -> Moments | None:
    """Return what the map reads, which the model may have scaled before."""
    reading = survey.readings.get(site.name)
    x = reading.x if reading else None
    if reading is None or x is None or reading.samples < 2 or x.nonfinite.any():
        return None
    return x


def _finding(
    survey: Survey,
    site: Site | None,
    message: str,
    cause: str,
    evidence: dict[str, int | float],
    advice: str = INPUTS,
    severity: Severity | None = None,
) -> Finding:
    return Finding(
        site=site.name if site else None,
        message=message,
        cause=cause,
        evidence=evidence,
        remedy=_remedy(survey, site, advice),
        severity=severity,
    )


def _remedy(survey: Survey, site: Site | None, advice: str) -> Remedy:
    reads = [s for s in survey.sites if s.reads_input]
    if site is None or len(reads) > 1:
        return Remedy(advice=advice)
    return standardise(survey, site, advice)
