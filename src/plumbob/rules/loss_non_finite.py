"""PB701: the loss of a run, or what it is made of, is NaN or infinite."""

from collections.abc import Iterator

import numpy as np

from plumbob.rule import rule
from plumbob.types import Break, Finding, History, Needs, Remedy, Severity, Survey


@rule(
    "PB701",
    "loss-non-finite",
    Needs.HISTORY,
    Severity.ERROR,
    since="0.1",
    explains=(
        "PB101",
        "PB208",
        "PB403",
        "PB702",
        "PB704",
        "PB711",
        "PB715",
        "PB718",
    ),
)
def loss_non_finite(survey: Survey, *, risen_above: float = 10.0) -> Iterator[Finding]:
    """The loss, a gradient or a weight has become NaN or infinite.

    Why:
        A step with NaN in the gradient makes the weights NaN, and so every loss after
        it: what is trained from there on is lost. Values break going forward (data, an
        overflow, a logarithm or quotient of 0) or going backward (a root at 0), and the
        first thing that is not finite tells which: a loss while the weights are finite,
        or a gradient while its loss is. A loss that rose far before it broke was
        thrown there by the steps, unless its data are seen to be broken.

    Evidence:
        step: the first at which a loss, gradient or weight is not finite. losses: how
        many losses are not; gradients, weights: of how many parameters at that step.
        start, before: the first loss and the last finite one before it.
        limit, low, high: the largest number of the dtype, and the ends of the finite
        values that went into the operation that broke, where it is known. values: how
        many numbers of the batch are not finite, `of` its numbers, where these are it.

    Args:
        risen_above: how many times the first loss the last finite one must be for the
            steps to be the cause that is told.

    Remedy:
        By hand: mend the data or the operation; where the loss rose before, lower the
        learning rate, warm it up or clip the gradient's norm. Go back to a state from
        before the step. A warning where the losses are finite again and no weight is
        broken: a step was lost.

    Allow when:
        Such steps are looked for and left out by your own code.

    Example:
        >>> from nets_history_loss import loss_non_finite
        >>> from watched import codes
        >>> codes(loss_non_finite(leans=True)) & {"PB701"}
        {'PB701'}
        >>> codes(loss_non_finite(leans=False)) & {"PB701"}
        set()

    References:
        IEEE Std 754-2019, Floating-point arithmetic, section 6.2 (NaN propagates).
        Micikevicius et al. (2018), Mixed precision training, section 3.2.
    """
    history = survey.history
    assert history is not None
    loss, ended = _losses(history)
    gradients, weights = _parameters(history)
    found = [
        step for step in (loss, *gradients.values(), *weights.values()) if step >= 0
    ]
    if not found:
        return
    step = min(found)
    evidence: dict[str, int | float] = {
        "step": step,
        "losses": sum(
            int((~np.isfinite(some.values)).sum()) for some in history.losses.values()
        ),
        "gradients": sum(at == step for at in gradients.values()),
        "weights": sum(at == step for at in weights.values()),
    }
    what = "loss" if loss == step else "gradient" if evidence["gradients"] else "weight"
    evidence |= _before(history, step)
    risen = evidence.get("before", 0) > risen_above * abs(evidence.get("start", np.inf))
    cause, advice = _cause(survey, what, evidence, risen)
    yield Finding(
        message=f"from step {{step}} on the {what} is NaN or infinite"
        + ("" if ended or weights else ", and finite again later"),
        cause=cause,
        evidence=evidence,
        severity=None if ended or weights else Severity.WARNING,
        remedy=Remedy(advice=advice),
    )


def _losses(history: History) -> tuple[int, bool]:
    """Return the first step with a broken loss, -1 for none, and if the last is."""
    first, ended = list[int](), False
    for some in history.losses.values():
        broken = np.flatnonzero(~np.isfinite(some.values))
        if len(broken):
            first.append(int(some.steps[broken[0]]))
            ended |= int(broken[-1]) == len(some.values) - 1
    return min(first, default=-1), ended


def _parameters(history: History) -> tuple[dict[str, int], dict[str, int]]:
    """Return the first step with a broken gradient, and weight, by parameter.

    Under loss scaling a gradient may overflow: the scale is lowered for it. A weight
    that is NaN has no size, and no gradient that is finite.
    """
    scaled = bool((history.scales != 1).any())
    gradients, weights = dict[str, int](), dict[str, int]()
    for name, course in history.courses.items():
        gradient = np.isinf(course.gradient)
        weight = np.isinf(course.size) | (np.isnan(course.size) & gradient)
        if gradient.any() and not scaled:
            gradients[name] = int(history.steps[gradient.argmax()])
        if weight.any():
            weights[name] = int(history.steps[weight.argmax()])
    return gradients, weights


def _before(history: History, step: int) -> dict[str, float]:
    """Return the first and the last finite loss before a step."""
    if history.loss is None:
        return {}
    earlier = history.loss.values[history.loss.steps < step]
    finite = earlier[np.isfinite(earlier)]
    if not len(finite):
        return {}
    return {"start": float(finite[0]), "before": float(finite[-1])}


def _cause(
    survey: Survey, what: str, evidence: dict[str, int | float], risen: bool
) -> tuple[str, str]:
    slow = "lower the learning rate; or warm it up from near 0; or clip the "
    slow += "gradient's norm"
    origin = survey.first_break
    if origin is not None and origin.cause in {"input", "target"}:
        evidence |= {"values": origin.values, "of": origin.of}
        return (
            f"the data: {{values}} of {{of}} numbers in the {origin.cause} of that "
            "batch {values:is|are} NaN or infinite",
            "Clean the data: fill in or leave out what is missing, and look for a "
            "division or logarithm of 0 where they are scaled.",
        )
    if risen:
        return (
            "the loss had risen from {start} to {before} before: the steps throw the "
            "parameters out",
            f"{slow[0].upper()}{slow[1:]}.",
        )
    if origin is not None and origin.cause != "weight":
        return _broken(origin, evidence)
    if origin is not None and not evidence["step"]:  # later ones a step has spoilt
        return (
            f"{_braced(origin.parameter or 'a weight')} was not finite before the "
            "first step, or this made it so",
            "Look at the weights as they are drawn or loaded, and at the first batch.",
        )
    if what == "weight":
        return (
            "a step made it so: its gradient, or the optimiser's own state, is broken",
            f"Start again from a sound state; then {slow}.",
        )
    if what == "gradient":
        return (
            "the loss of that step is finite: it was made going backward",
            "Look for a root, norm, logarithm or power at 0 on the way to the loss; "
            f"or {slow}.",
        )
    return (
        "no weight was broken before: the data, or an operation going forward",
        "Look for NaN or infinite values in that batch and its targets; or for a "
        f"logarithm or division of 0, or an overflow; or {slow}.",
    )


def _broken(found: Break, evidence: dict[str, int | float]) -> tuple[str, str]:
    place = "the loss" if found.place is None else found.place or "the model"
    where = _braced(f"{found.operation} in {place}")
    cause = found.cause.replace("-", " ")
    evidence |= {"low": found.low, "high": found.high, "limit": found.limit}
    return (
        f"{where} is the first to give such a value ({cause}), of finite values from "
        "{low} to {high}",
        f"Mend {where}; or lower the learning rate, if its inputs have grown.",
    )


def _braced(text: str) -> str:
    """Return a text as a template's."""
    return text.replace("{", "{{").replace("}", "}}")
