"""PB711: the loss has come to rest, far from its floor."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.trends import middle, reach, standing
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule(
    "PB711",
    "plateau",
    Needs.HISTORY | Needs.LOSSES,
    Severity.WARNING,
    since="0.1",
    explains=("PB718",),
)
def plateau(
    survey: Survey,
    *,
    learnt_below: float = 0.25,
    finished_above: float = 0.9,
    patience: int = 1000,
    few: int = 50,
    narrow_below: int = 3,
    reach_above: float = 1.0,
) -> Iterator[Finding]:
    """The loss no longer falls, and much of what there is to learn is left.

    Why:
        A loss rests where the net can do no better (too small, or the targets do not
        follow from the inputs), where its steps are too long to come lower, or where no
        gradient is left (units saturated or dead). These differ: steps that are too
        long promise to lower the loss by much of itself, again and again, and steps
        without gradient promise nothing. A map with one or two units lets only as many
        numbers through, however wide the others are.

    Evidence:
        level: the loss in the last quarter of `steps` steps, a median of means. gain:
        what as many steps again would gain by its last fall. learnt: the share of the
        way from the best constant output to the floor. reach: what one step promises,
        over all that the loss could fall by, the median over the later measured steps.
        narrow: the units of the narrowest map between input and output.

    Args:
        learnt_below: the share learnt below which it is a warning.
        finished_above: the share above which nothing is said.
        patience: steps before a run that goes on is judged.
        few: losses before any is.
        narrow_below: a hidden map with fewer units is named as the cause, and is a
            warning up to `finished_above`, if the maps form a chain, it has no more
            units than inputs, and outputs are not as many as inputs (an autoencoder).
            With fewer units than outputs it is named too where the loss still falls
            and as many steps again would leave it short of `finished_above` (so since
            unseen runs that crawled for hundreds of steps).
        reach_above: steps as long are named as the cause.

    Remedy:
        By hand. Where steps are long, lower the learning rate, or take larger batches,
        or let it fall over the run; where a map is narrow, widen it; else widen the
        net, or raise the learning rate, or take Adam, or look at inputs and targets.

    Allow when:
        The targets are noisy, and no net could do better; the narrow map is meant.

    Example:
        >>> from nets_history_loss import plateau
        >>> from watched import codes
        >>> codes(plateau(leans=True)) & {"PB711"}
        {'PB711'}
        >>> codes(plateau(leans=False)) & {"PB711"}
        set()

    References:
        Bottou, Curtis and Nocedal (2018), Optimization methods for large-scale machine
        learning, section 4.2.
    """
    history = survey.history
    assert history is not None
    now = standing(history)
    if now is None or now.learnt is None or now.known < few:
        return
    if not (history.over or history.taken >= patience) or now.learnt > finished_above:
        return
    narrow = _narrow(survey, narrow_below)
    crawls = narrow is not None and narrow[1] < survey.sites[-1].out
    crawls &= now.learnt + max(now.gain, 0.0) / now.scale < finished_above
    if not (now.still or crawls):
        return
    evidence: dict[str, int | float] = {
        "steps": now.steps,
        "level": now.level,
        "gain": now.gain,
        "learnt": now.learnt,
    }
    steps = reach(history)
    step = middle(steps[len(steps) // 2 :])
    if step is not None:
        evidence["reach"] = step
    if narrow is not None:
        evidence["narrow"] = narrow[1]
    if narrow is not None:
        cause = "all that the output learns of the input comes through {narrow} "
        cause += "{narrow:unit|units}"
        advice = "Widen this map; or raise the learning rate; or look whether the "
        advice += "targets follow from the inputs."
    elif step is not None and step > reach_above:
        cause = "each step promises {reach} times what the loss could fall by: the "
        cause += "steps are too long to come lower"
        advice = "Lower the learning rate, or let it fall over the run; or take larger "
        advice += "batches; or widen the net."
    else:
        cause = "the net can do no better, or no longer gets there"
        advice = "Widen the net or add a layer; or raise the learning rate; or take "
        advice += "Adam; or look whether the targets follow from the inputs."
    yield Finding(
        site=narrow[0] if narrow is not None else None,
        message=f"the loss {'rests' if now.still else 'crawls'} at {{level}}, "
        "{learnt:.0%} of the way from a constant output to the floor",
        cause=cause,
        evidence=evidence,
        severity=Severity.WARNING
        if narrow is not None or now.learnt < learnt_below
        else Severity.INFO,
        remedy=Remedy(advice=advice),
    )


def _narrow(survey: Survey, below: int) -> tuple[str, int] | None:
    """Return the narrowest hidden map of a chain, and its units, if it is a strait.

    A chain that gives back as many numbers as it reads is narrow on purpose.
    """
    sites = survey.sites
    if not sites or any(
        len(s.feeds) > 1 or len(s.fed_by) > 1 or s.gates for s in sites
    ):
        return None
    if sites[-1].out == sites[0].fan_in > 1:
        return None
    hidden = [s for s in sites if s.kind == "linear" and s.activation and s.feeds]
    straits = [(s.out, s.name) for s in hidden if s.out < below and s.out <= s.fan_in]
    return (min(straits)[1], min(straits)[0]) if straits else None
