"""PB608: a few samples cannot be learnt by heart."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Overfit, Remedy, Severity, Survey, Try


@rule(
    "PB608",
    "cannot-overfit-batch",
    Needs.ACTIVATIONS | Needs.OVERFIT,
    Severity.ERROR,
    since="0.1",
    opt_in=True,
)
def cannot_overfit_batch(
    survey: Survey, *, gained_below: float = 0.2, fallen_below: float = 0.01
) -> Iterator[Finding]:
    """A few samples are not learnt by heart in a few hundred steps; judged if selected.

    Why:
        A net with more parameters than there are numbers to learn can bring the loss
        of a few samples down far below what the best constant output has, however
        poor it is on others. One that cannot has a fault that more data and longer
        training do not mend: inputs or gradients that do not get through, a loss that
        does not ask for what is wanted, an optimiser that does not step well. So up
        to 32 samples of the first batch are learnt on a copy, in training mode, with
        the same random numbers in every step (dropout is then a part of the function
        and keeps nothing from being learnt): by the optimiser as given, then by Adam
        at three learning rates, for 300 steps each, until the goal is reached. There
        are fewer samples where the parameters are not twice as many as the targets.

        It takes as long as a thousand steps of the training at most, so it is judged
        only where its whole code or name is selected.

    Evidence:
        samples: how many. first: their loss before. low: the lowest in `steps` steps of
        the last try. constant: the loss of the best constant output, where known.
        goal: the loss that counts as learnt, a quarter of the way from `constant` to
        the loss of the best output for each sample by itself; or 10 % below `first`,
        where these are not known. (75 of 75 healthy families got half-way in 150 steps,
        one published healthy net, of eleven tanh layers, a third of the way in 300: the
        quarter was set then.) tries: of how many optimisers. own: the lowest loss with
        the optimiser as given. rate: the learning rate of the last try.
        gained: the share of the way from `constant` to `goal` of the best try, or of
        the optimiser as given; fallen: of the way from `first`; late: what of this the
        second half of its steps added.

    Args:
        gained_below: share of the way from the best constant to the goal. Below it an
            error: nothing but a constant is learnt, of samples so few.
        fallen_below: share of the way from the first loss to the goal. Where Adam gets
            there, and the optimiser as given gains less than `gained_below` and adds
            less than this in the second half of its steps, it is stuck: a warning. A
            slow one that is under way is told as info. Where no constant is known a
            fall by less than this is a warning, a larger one short of the goal info.

    Remedy:
        By hand. Look first whether the outputs differ between samples at all, then
        whether inputs and targets belong together, whether the loss reads the outputs
        as they are meant (logits or probabilities, shapes), whether every layer has a
        gradient, and at last at the learning rate.

    Allow when:
        The targets do not follow from the inputs, or the net is built not to tell few
        samples apart.

    Example:
        >>> from nets_inputs import cannot_overfit_batch
        >>> from netting import codes
        >>> codes(cannot_overfit_batch(leans=True), select="PB608")
        {'PB608'}
        >>> codes(cannot_overfit_batch(leans=False), select="PB608")
        set()

    References:
        Karpathy (2019), A recipe for training neural networks, "overfit one batch".
        Braiek and Khomh (2023), Testing feedforward neural networks training programs.
    """
    facts = survey.overfit
    assert facts is not None
    tries = facts.tries
    start = facts.first if facts.constant is None else facts.constant
    if min(start, facts.first) <= facts.goal:
        return  # there is nothing to gain
    own = next((one for one in tries if one.own), None)
    evidence = {"samples": facts.samples, "first": facts.first, "goal": facts.goal}
    if tries[-1].low <= facts.goal:
        if own is not None and own.low > facts.goal:
            yield _slow(facts, own, evidence, gained_below, fallen_below)
        return
    low = min(one.low for one in tries)
    evidence |= {"low": low, "tries": len(tries), "steps": max(t.steps for t in tries)}
    if facts.constant is None:
        fallen = (facts.first - low) / (facts.first - facts.goal)
        evidence["fallen"] = fallen
        severity = Severity.WARNING if fallen < fallen_below else Severity.INFO
        told = "from {first} to {low}"
    else:
        gained = (facts.constant - low) / (facts.constant - facts.goal)
        evidence |= {"constant": facts.constant, "gained": gained}
        severity = Severity.ERROR if gained < gained_below else Severity.WARNING
        told = "to {low}, and the best constant output has {constant}"
    yield Finding(
        message="no optimiser of {tries} brings the loss of {samples} samples below "
        f"{{goal}} in {{steps}} steps: it comes {told}",
        cause="the samples cannot be told apart, or not by way of this loss",
        evidence=evidence,
        severity=severity,
        remedy=Remedy(
            advice="Look whether outputs differ between samples, whether inputs and "
            "targets belong together, whether the loss reads outputs as they are "
            "meant, and whether every layer has a gradient."
        ),
    )


def _slow(
    facts: Overfit,
    own: Try,
    evidence: dict[str, int | float],
    gained_below: float,
    fallen_below: float,
) -> Finding:
    """Return what there is to say of an optimiser that alone is in the way."""
    last = facts.tries[-1]
    way = facts.first - facts.goal
    late = (own.half - own.low) / way
    start = facts.first if facts.constant is None else facts.constant
    gained = (start - own.low) / (start - facts.goal)
    stuck = gained < gained_below and late < fallen_below
    evidence |= {
        "own": own.low,
        "own_rate": own.lr,
        "own_steps": own.steps,
        "gained": gained,
        "late": late,
        "low": last.low,
        "rate": last.lr,
        "steps": last.steps,
    }
    return Finding(
        message="{own_steps} {own_steps:step|steps} as given bring the loss of "
        "{samples} samples from {first} to no less than {own}, {steps} of Adam at "
        "{rate} to {low}",
        cause="the samples can be learnt: the optimiser, or its learning rate of "
        "{own_rate}, is in the way",
        evidence=evidence,
        severity=Severity.WARNING if stuck else Severity.INFO,
        remedy=Remedy(advice="Try another learning rate, or Adam at {rate}."),
    )
