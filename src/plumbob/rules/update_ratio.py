"""PB704: steps that are out of proportion to the weights they move."""

from collections.abc import Iterator

import numpy as np

from plumbob.progress import gained
from plumbob.rule import rule
from plumbob.travel import ratios, travellers
from plumbob.types import Finding, Needs, Remedy, Severity, Survey

BURST = 5  # measured steps; the length of a start, and the least that is judged


@rule(
    "PB704",
    "update-ratio",
    Needs.HISTORY,
    Severity.WARNING,
    since="0.1",
    explains=("PB702", "PB711", "PB718"),
)
def update_ratio(
    survey: Survey,
    *,
    ratio_above: float = 1.0,
    start_above: float = 0.2,
    ratio_below: float = 1e-6,
    gained_below: float = 0.2,
    steps_above: int = 100,
) -> Iterator[Finding]:
    """A step is longer than the weights that it moves, or next to nothing beside them.

    Why:
        A weight of size |w| that is moved by |dw| keeps what it was only while |dw| is
        the smaller one. A step as long as the weights themselves puts others in their
        place: the initialisation, and all that was learnt, is gone, units land where
        they are dead or saturated, and the loss may never come back from there. A step
        of a millionth takes a million of them, all one way, to make a difference, and
        float32 rounds off a share of it.

        Single parameters do either now and then: one that began at 0 moves by its own
        length at once. So it is the median over the weights of all maps; those that
        began at 0 and embeddings are left out.

    Evidence:
        ratio: the median over maps of |dw| / |w| of their weights: the largest of any
        measured step, where it is told as long; the median over the first measured
        steps, or over all of them. step: where it was largest. weights: how many were
        looked at. gained: the share of what was to be learnt that has been learnt.

    Args:
        ratio_above: a single step that is told: as long as the weights are.
        start_above: the median of the first five measured steps that is told: then
            they have replaced the weights between them. Of 26 sound trainings, looked
            at before it was set, none was above 0.1.
        ratio_below: median over steps that is told as next to nothing.
        gained_below: share of what was to be learnt below which it is a warning.
        steps_above: steps after which steps next to nothing are told.

    Remedy:
        Lower the learning rate, or raise it. Info where the loss is not known, or the
        training learns all the same. A CNN on digits (SGD, 15 epochs, three seeds):
        10 % right, as by guessing, at a learning rate of 5 (a step of 1.8-2.1 times the
        weights) and 99-100 % at a tenth of it.

    Allow when:
        The first steps are meant to make the weights (an initialisation next to 0).

    Example:
        >>> from nets_history_steps import update_ratio
        >>> from watched import codes
        >>> codes(update_ratio(leans=True)) & {"PB704"}
        {'PB704'}
        >>> codes(update_ratio(leans=False)) & {"PB704"}
        set()

    References:
        You et al. (2017), Large batch training of convolutional networks, section 4.
        Karpathy (2015), CS231n notes, Neural networks part 3, "Ratio of
        weights:updates".
    """
    history = survey.history
    assert history is not None
    moved = {name: ratios(course) for name, course in travellers(survey).items()}
    if not moved:
        return
    each = np.array(list(moved.values()))
    logs = np.flatnonzero(~np.isnan(each).all(0))
    if len(logs) < BURST:
        return
    ratio, steps = np.nanmedian(each[:, logs], axis=0), history.steps[logs]
    progress = gained(history)
    lost = progress is not None and not progress >= gained_below
    top = int(ratio.argmax())
    evidence: dict[str, int | float] = {"weights": len(moved)}
    if progress is not None:
        evidence["gained"] = progress
    if ratio[top] > ratio_above or float(np.median(ratio[:BURST])) > start_above:
        one = ratio[top] > ratio_above
        evidence |= {
            "ratio": float(ratio[top] if one else np.median(ratio[:BURST])),
            "step": int(steps[top]),
        }
        yield Finding(
            message="step {step} is {ratio:.3g} times as long as the weights that it "
            "moves, the median over the maps"
            if one
            else "the first steps are {ratio:.3g} times as long as the weights that "
            "they move, the median over them and the maps",
            cause="the learning rate is too high for weights and gradients of this "
            "size: what the weights were before is gone",
            evidence=evidence,
            severity=None if lost else Severity.INFO,
            remedy=Remedy(
                advice="Lower the learning rate to a tenth; or warm it up over the "
                "first steps; or standardise what the model reads."
            ),
        )
    elif (
        history.taken >= steps_above
        and 0 < float(np.median(ratio)) < ratio_below
        and (progress is None or progress < 1 - gained_below)
    ):
        evidence["ratio"] = float(np.median(ratio))
        yield Finding(
            message="a step is {ratio:.2g} times as long as the weights that it moves, "
            "the median over steps and maps",
            cause="the learning rate is too low for weights and gradients of this size",
            evidence=evidence,
            severity=None if lost else Severity.INFO,
            remedy=Remedy(
                advice="Raise the learning rate tenfold, again and again, while the "
                "loss still falls; or use an optimiser that divides by the gradient's "
                "size (Adam)."
            ),
        )
