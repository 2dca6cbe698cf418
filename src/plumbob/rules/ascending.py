"""PB717: the steps go up the loss."""

from collections.abc import Iterator
from math import inf

import numpy as np

from plumbob.rule import rule
from plumbob.trends import at, middle
from plumbob.types import Finding, History, Needs, Remedy, Severity, Survey


@rule(
    "PB717",
    "ascending",
    Needs.HISTORY | Needs.LOSSES,
    Severity.ERROR,
    since="0.1",
    explains=(
        "PB101",
        "PB208",
        "PB403",
        "PB701",
        "PB702",
        "PB703",
        "PB704",
        "PB708",
        "PB711",
        "PB718",
    ),
)
def ascending(
    survey: Survey,
    *,
    risen_above: float = 1.5,
    share_above: float = 0.9,
    pulled_below: float = -0.5,
    times_below: float = 4.0,
    steps_above: int = 2,
) -> Iterator[Finding]:
    """The loss rises because the steps go up its slope: a flipped sign.

    Why:
        A step dw changes the loss by g.dw, to first order. Every optimiser makes that
        negative; one with `maximize` makes it positive, and nothing else does in step
        after step. Where the sign is flipped before the gradient is taken, by
        `(-loss).backward()`, g.dw looks right and g itself is wrong. That can be
        seen too: the loss is convex in the net input of the output, and so in the
        weights of the last layer. Hence w.g there, how fast the loss rises as these
        weights grow, is at least the loss minus that of outputs that are 0. Where the
        loss has come to rest far above what it was at the start and w.g is far below
        0, g is the gradient of something else, mostly of minus the loss. Steps that are
        merely too long throw the loss up as well, but leave w.g above 0. Targets that
        grow do not: outputs that follow them fall short, and longer ones are better.
        But near its targets a loss is small beside w.g, which flipped is about twice a
        squared error.

    Evidence:
        start, last: the first finite loss, and the median of the last quarter of them.
        steps: how many measured steps tell; share: of how many of them it is true.
        along: the median cosine of g and dw, decay taken out, where these steps rise.
        pulled: the median of w.g of the last layer (of all parameters where it is not
        known) over what the loss of that step lies above its start, and above that of
        the best constant output where it is known.

    Args:
        risen_above: how many times its start (and the constant's loss) a loss must be
            for w.g to be asked, of its step and in the last quarter. Flipped, it soon
            is; outputs of 0 have about that loss.
        share_above: of the steps. It is exact but for what momentum carries over.
        pulled_below: where the first layers' outputs move too, w.g of the last one
            still says minus 1 and less.
        times_below: how many times the loss -w.g may be. Outputs that are k times their
            targets have (k - 1)^2 of them squared, w.g is 2 k (k - 1): where the loss
            is above 1.5 of them at most 3.7 times as much.
        steps_above: how many steps are too few where g.dw tells; w.g needs so many.

    Remedy:
        By hand. Call `loss.backward()` on the loss itself; or take `maximize=True` out
        of the optimiser; or, where the value is to grow (a reward, a likelihood), tell
        its negative as the loss.

    Allow when:
        The value that is told as the loss is meant to grow; or its targets grow faster
        than the outputs follow (a value function's).

    Example:
        >>> from nets_history_loss import ascending
        >>> from watched import codes
        >>> codes(ascending(leans=True)) & {"PB717"}
        {'PB717'}
        >>> codes(ascending(leans=False)) & {"PB717"}
        set()

    References:
        Boyd and Vandenberghe (2004), Convex optimization, section 3.1.3 (the
        first-order condition).
        Braiek and Khomh (2023), Testing feedforward neural networks training programs.
    """
    history = survey.history
    assert history is not None
    if history.loss is None:
        return
    known = history.loss.values[np.isfinite(history.loss.values)]
    if not len(known) or not history.courses:
        return
    start, last = float(known[0]), float(np.median(known[len(known) * 3 // 4 :]))
    evidence: dict[str, int | float] = {"start": start, "last": last}
    along = _along(history)
    rising = along[np.isfinite(along)] > 0
    if len(rising) > steps_above and rising.mean() > share_above and last > start:
        yield Finding(
            message="{share:.0%} of {steps} steps go up the gradient of the loss, from "
            "{start} to {last}",
            cause="the cosine of gradient and step is {along}: the optimiser maximises",
            evidence=evidence
            | {
                "along": middle(along) or 0.0,
                "share": float(rising.mean()),
                "steps": len(rising),
            },
            remedy=Remedy(
                advice="Take maximize=True out of the optimiser; or, if the value is "
                "to grow, tell its negative as the loss."
            ),
        )
        return
    base = max(start, -inf if history.constant is None else history.constant)
    if last <= base + (risen_above - 1) * abs(base):
        return
    loss, pull = _pulls(survey, history)
    far = (loss > base + (risen_above - 1) * abs(base)) & np.isfinite(pull)
    loss, pull = loss[far], pull[far]
    if len(pull) < steps_above:
        return
    pulled = pull / (loss - base)
    above = loss - min(base, 0.0)  # a loss that begins below 0 has no such floor
    share = float(((pulled < pulled_below) & (-pull < times_below * above)).mean())
    if share < share_above:
        return
    yield Finding(
        message="the loss has risen from {start} to {last}, and smaller weights would "
        "raise it further by the gradients of {share:.0%} of {steps} steps",
        cause="w.g is {pulled} of what the loss has risen by, where it is at least as "
        "much: the gradients are not of this loss but of its negative",
        evidence=evidence
        | {"pulled": middle(pulled) or 0.0, "share": share, "steps": len(pulled)},
        remedy=Remedy(
            advice="Call backward() on the loss, not on its negative; or take "
            "maximize=True out of the optimiser; or, if the value is to grow, tell its "
            "negative as the loss."
        ),
    )


def _along(history: History) -> np.ndarray:
    """Return the cosine of gradient and step, without what the decay does."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        courses = history.courses.values()
        slope = np.array([c.slope + c.lr * c.decay * c.pull for c in courses])
        sizes = [np.array([getattr(c, n) for c in courses]) for n in _SIZES]
        lengths = [np.sqrt(np.nansum(size**2, axis=0)) for size in sizes]
        found = np.nansum(slope, axis=0) / (lengths[0] * lengths[1])
    found[np.isnan(slope).all(axis=0)] = np.nan
    return found


_SIZES = ("gradient", "change")


def _pulls(survey: Survey, history: History) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss and w.g of each measured step."""
    assert history.loss is not None
    ends = [site for site in survey.sites if site.is_output]
    names = {name for site in ends for name in (site.weight, site.bias)}
    courses = [c for name, c in history.courses.items() if name in names]
    courses = courses or list(history.courses.values())
    pull = np.nansum([course.pull for course in courses], axis=0)
    return at(history.loss, history.steps), pull
