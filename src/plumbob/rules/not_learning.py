"""PB702: the loss stays at that of a constant output."""

from collections.abc import Iterator

import numpy as np

from plumbob.rule import rule
from plumbob.trends import SURE, Standing, standing
from plumbob.types import Finding, History, Needs, Remedy, Severity, Survey

NEAR = 0.05  # of the constant's loss, which is that of the first batches


@rule(
    "PB702",
    "not-learning",
    Needs.HISTORY | Needs.LOSSES,
    Severity.WARNING,
    since="0.1",
    explains=("PB711", "PB718"),
)
def not_learning(
    survey: Survey,
    *,
    learnt_below: float = 0.05,
    patience: int = 1000,
    few: int = 10,
    spread_below: float = 0.01,
) -> Iterator[Finding]:
    """The loss is no better than that of the best constant output.

    Why:
        A net first finds the mean or the prior of the targets, which its output's bias
        alone can give, and then what the inputs say of them. Most leave this prior
        phase within an epoch; deep ones, and those of saturating units, may stay in it
        for good, as no gradient comes through that differs between inputs. So it is a
        fact worth knowing while it is short, and a fault where the training ends in it.
        Whether the outputs differ between inputs at all tells two causes apart: a net
        that no longer sees its inputs, and one whose outputs follow them in vain.
        Where the best output for each sample is no better than a constant, there is
        nothing that the net could learn by this loss: its outputs cannot reach the
        targets (pixels up to 255 from a tanh), or the loss normalises over the wrong
        axis. (This was added after two such runs had ended without a word.)

    Evidence:
        level: the loss, the median of means over the last quarter of `steps` steps.
        constant: that of the best constant output. learnt: the share of the way from
        there to the floor, the loss of the best output for each sample by itself.
        spread: the standard deviation of the last layer's net input over the samples
        of the last measured steps, the median over its units. left: the step at which
        the loss first got below, in a run that came back to it.

    Args:
        learnt_below: the share of what there is to learn that counts as nothing, noise
            taken off. (An image classifier at 10 % accuracy of 10 classes is at 0, at
            20 % mostly above 0.05.)
        patience: steps after which a run that goes on is warned of; before, and while
            its loss still falls, it is told as info.
        few: how few steps are not judged.
        spread_below: of the root of the loss. Below it the outputs count as constant.

    Remedy:
        By hand, in this order: mend what other findings say of this net; look whether
        inputs and targets belong together; try ten times the learning rate, and a
        tenth; take another optimiser (Adam), or better initial weights and fewer
        layers or a normalisation between them; train longer. PB608 tells whether a few
        samples can be learnt at all.

    Allow when:
        The targets do not follow from the inputs, or hardly.

    Example:
        >>> from nets_history_loss import not_learning
        >>> from watched import codes
        >>> codes(not_learning(leans=True)) & {"PB702"}
        {'PB702'}
        >>> codes(not_learning(leans=False)) & {"PB702"}
        set()

    References:
        Glorot and Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks, section 3.1.
        Karpathy (2019), A recipe for training neural networks.
    """
    history = survey.history
    assert history is not None
    now = standing(history)
    if now is None or now.known < few:
        return
    spread = _spread(survey, history)
    same = spread is not None and spread < spread_below * abs(now.level) ** 0.5
    nothing = now.most is not None and now.most < learnt_below
    if now.learnt is None:
        flat = abs(now.start - now.level) < 1e-3 * abs(now.level)
        nothing = same and flat and now.constant is None
    limit = _limit(history, now)
    if not (nothing or limit is not None):
        return
    evidence: dict[str, int | float] = {"level": now.level, "steps": now.steps}
    if limit is not None:
        evidence |= {"constant": limit[0], "floor": limit[1]}
    if now.constant is not None and now.learnt is not None:
        evidence |= {"constant": now.constant, "learnt": now.learnt}
    if spread is not None:
        evidence["spread"] = spread
    long = history.over or history.taken >= patience
    yield Finding(
        site=None,
        message="after {steps} steps the loss is {level}, "
        + (
            "and the best constant output has {constant}"
            if "constant" in evidence
            else "as at the start"
        ),
        cause="nor has the best output for each sample: {floor}; the outputs cannot "
        "reach the targets, or the loss does not pair them"
        if limit is not None
        else _cause(now, same, spread),
        evidence=evidence,
        severity=Severity.WARNING if long and not now.improves else Severity.INFO,
        remedy=Remedy(
            advice="Mend what is found of units and gradients; or raise the learning "
            "rate, or lower it where the loss is above the constant's; or take Adam; "
            "or draw the weights anew, with fewer layers or a normalisation between; "
            "or train longer."
            if same
            else "Look whether inputs and targets belong together; or raise the "
            "learning rate, or lower it where the loss is above the constant's; or "
            "take Adam; or train longer."
        ),
    )


def _cause(now: Standing, same: bool, spread: float | None) -> str:
    if now.improves:
        return "it still falls: this is the phase in which the mean is learnt"
    if same:
        return (
            "the output is as good as constant: over the samples its net input has a "
            "standard deviation of {spread}"
        )
    if spread is None:
        return "what the outputs do is not known"
    return (
        "the outputs follow the inputs (the standard deviation of their net input is "
        "{spread}), but not the targets"
    )


def _limit(history: History, now: Standing) -> tuple[float, float] | None:
    """Return the constant's loss and the floor, where these agree and the loss rests.

    A first batch of one class has the two agree as well, both at nothing.
    """
    constant, floor = history.constant, history.floor
    if now.constant is not None or constant is None or floor is None:
        return None
    same = abs(constant - floor) <= 1e-3 * constant and floor > 1e-3 * abs(now.start)
    reached = abs(now.level - constant) <= max(SURE * now.error, NEAR * constant)
    return (constant, floor) if same and reached and not now.improves else None


def _spread(survey: Survey, history: History) -> float | None:
    """Return the median over output units of sd[z], in the last window of each."""
    ends = [site.name for site in survey.sites if site.is_output]
    last = [history.windows[name][-1].z for name in ends if history.windows.get(name)]
    found = [z.sd[(z.count > 1) & (z.nonfinite == 0)] for z in last]
    every = np.concatenate(found) if found else np.zeros(0)
    return float(np.median(every)) if len(every) else None
