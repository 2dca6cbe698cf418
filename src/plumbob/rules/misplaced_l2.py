"""PB505: an L2 or L1 penalty that is no weight decay, or that outweighs the data."""

from collections.abc import Iterator, Mapping

from plumbob.rule import rule
from plumbob.types import Finding, Group, Needs, Remedy, Severity, Survey

# Their steps are divided by the gradient's own size.
ADAPTIVE = ("Adam", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta")


@rule("PB505", "misplaced-l2", Needs.STEP, Severity.WARNING, since="0.1")
def misplaced_l2(
    survey: Survey, *, value_above: float = 4.0, pull_above: float = 0.5
) -> Iterator[Finding]:
    """A penalty within the loss, or one that outweighs all that there is to learn.

    Why:
        lambda |w|^2 in the loss adds 2 lambda w to the gradient. Under plain SGD that
        is a weight decay of 2 lambda; under Adam and its kin the sum is divided by
        the gradient's own size, so that weights with large gradients are hardly
        decayed and those with small ones all the more. Harmless, mostly: info.

        It kills where it is larger than all that the data can give back. No optimum
        can hold more penalty than what the loss falls by from the best constant output
        to the lowest possible: otherwise w = 0 were better. So where the penalty is
        several times that, all weights have to shrink, and they do where its pull is
        of the size of the data's. A wide net has weights to spare, but it is pulled
        weakly. Weights that a norm follows do not count: their size changes nothing.

    Evidence:
        parameters: how many feel the penalty; vectors: of them biases and scales.
        strength: lambda (of |w|^2, or of |w|); decay: the weight decay of SGD that it
        is, or the one that the optimiser has. value: the penalty on weights without a
        norm behind them; room: by how much the loss can fall from the best constant;
        pull, data: the norms of the gradient of both parts there.

    Args:
        value_above: the penalty in units of `room` from which on it is a warning: at 4
            the weights have to halve at least.
        pull_above: `pull` in units of `data` for the same. Both were set after a CNN
            and an MLP on digits (SGD and Adam, 15 epochs, three seeds) had been
            trained with strengths of 0.001 to 0.1. Below both, or one: 94-98 % right
            up to a value of 2 rooms, 86-92 % at 3; beyond both, 89-91 % at 5 and
            8-10 %, as by guessing, at 11 and 17.

    Remedy:
        Take the term out of the loss and give AdamW (or SGD) its weight_decay, biases
        apart; where it is too strong, begin with what leaves `value` a tenth of `room`.

    Allow when:
        The penalty is meant to prune: what it leaves is the result.

    Example:
        >>> from nets_optimizer import misplaced_l2
        >>> from netting import codes
        >>> codes(misplaced_l2(leans=True)) & {"PB505"}
        {'PB505'}
        >>> codes(misplaced_l2(leans=False)) & {"PB505"}
        set()

    References:
        Loshchilov and Hutter (2019), Decoupled weight decay regularization.
        Zhang et al. (2019), Three mechanisms of weight decay regularization.
    """
    step = survey.step
    assert step is not None
    normed = {site.weight for site in survey.sites if site.norm}
    pulls = {name: p for name, p in step.pulls.items() if p.order}
    adaptive = survey.optimizer is not None and any(
        name.startswith(ADAPTIVE) and not name.startswith("AdamW")
        for name in survey.optimizer.name.split(" + ")
    )
    if pulls:
        strengths = [p.strength for p in pulls.values()]
        order = max(p.order for p in pulls.values())
        felt = {n: (p.value, p.norm) for n, p in pulls.items() if n not in normed}
        evidence = {"strength": max(strengths), "decay": 2 * max(strengths)}
        names = list(pulls)
    else:
        groups = _coupled(survey)
        felt = {
            name: (group.weight_decay / 2 * size, group.weight_decay * size**0.5)
            for group in groups
            for name in group.parameters
            if name in survey.tensors and name not in normed
            for size in [_square(survey, name)]
        }
        evidence = {"decay": max((g.weight_decay for g in groups), default=0.0)}
        names = [name for group in groups for name in group.parameters]
        order = 2
    if not names:
        return
    evidence |= _weighed(survey, felt)
    strong = (  # no gradient of the data at all: the net is dead, of another cause
        evidence["value"] > value_above * evidence.get("room", float("inf"))
        and evidence["pull"] > pull_above * evidence["data"] > 0
    )
    if not (strong or pulls or adaptive):
        return  # SGD's own decay, in its place
    vectors = [n for n in names if n in survey.tensors and _flat(survey, n)]
    what = "a weight decay of {decay}"
    if pulls:
        what = f"an L{order} penalty of strength {{strength}} in the loss"
    elif adaptive:
        what += " as a part of the gradient"
    more = " and adds {value} to a loss that can fall by {room} at most"
    yield Finding(
        message=f"{what} acts on {{parameters}} {{parameters:parameter|parameters}}"
        + more * strong,
        cause="it pulls at the weights with {pull}, the data with {data}, and no "
        "optimum can hold so much of it: all of them shrink, whatever there is to learn"
        if strong
        else "the optimiser divides the sum of both gradients by its size, so it is "
        "no weight decay"
        if adaptive
        else "SGD makes of it the weight decay that it has a place for",
        evidence=evidence | {"parameters": len(names), "vectors": len(vectors)},
        severity=None if strong else Severity.INFO,
        remedy=Remedy(
            advice="Lower it: begin with what leaves it a tenth of what the loss can "
            "fall by, as a weight_decay of AdamW or SGD."
            if strong
            else "Take it out of the loss and set weight_decay in AdamW or SGD."
            if pulls
            else "Use AdamW, whose weight decay is apart from the gradient."
        ),
    )


def _coupled(survey: Survey) -> list[Group]:
    """Return the groups whose decay is added to the gradient."""
    groups = survey.optimizer.groups if survey.optimizer else ()
    return [g for g in groups if g.weight_decay > 0 and not g.decoupled and g.lr > 0]


def _flat(survey: Survey, name: str) -> bool:
    return len(survey.tensors[name].shape) < 2


def _square(survey: Survey, name: str) -> float:
    tensor = survey.tensors[name]
    return tensor.count * (tensor.var + tensor.mean**2)


def _weighed(
    survey: Survey, felt: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Return what the penalty and the data weigh at these parameters."""
    assert survey.step is not None
    data = [survey.step.data.get(name, 0.0) for name in felt]
    found = {
        "value": float(sum(value for value, _ in felt.values())),
        "pull": sum(norm**2 for _, norm in felt.values()) ** 0.5,
        "data": sum(norm**2 for norm in data) ** 0.5,
    }
    output = survey.output
    if output is None or not output.loss > 0:
        return found
    inside = sum(p.value for p in survey.step.pulls.values())
    summed = float(survey.about.get("loss", output.loss)) / output.loss
    floor = output.floor
    if floor is None:  # it falls for ever: to 0, where it is one of shares
        if survey.loss is None or survey.loss.wants in {None, "numbers"}:
            return found
        floor = inside
    return found | {"room": (output.constant - floor) * max(summed, 1.0)}
