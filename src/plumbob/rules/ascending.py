"""PB717: the steps go up the loss."""

from collections.abc import Iterator

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
        loss is far above what it was at the start and w.g is far below 0, g is the
        gradient of something else, mostly of minus the loss. Steps that are merely
        too long throw the loss up as well, but leave w.g above 0.

    Evidence:
        start, last: the first and the last finite loss. steps: how many measured steps
        tell; share: of how many of them it is true.
        along: the median cosine of g and dw, decay taken out, where these steps rise.
        pulled: the median of w.g of the last layer (of all parameters where it is not
        known) over what the loss of that step lies above its start, and above that of
        the best constant output where it is known.

    Args:
        risen_above: how many times its start (and the constant's loss) a loss must be
            for w.g to be asked. Flipped, it soon is; outputs of 0 have about that loss.
        share_above: of the steps. It is exact but for what momentum carries over.
        pulled_below: where the first layers' outputs move too, w.g of the last one
            still says minus 1 and less.
        steps_above: how many steps are too few where g.dw tells; w.g needs so many.

    Remedy:
        By hand. Call `loss.backward()` on the loss itself; or take `maximize=True` out
        of the optimiser; or, where the value is to grow (a reward, a likelihood), tell
        its negative as the loss.

    Allow when:
        The value that is told as the loss is meant to grow.

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
    evidence: dict[str, int | float] = {
        "start": float(known[0]),
        "last": float(known[-1]),
    }
    along = _along(history)
    rising = along[np.isfinite(along)] > 0
    if (
        len(rising) > steps_above
        and rising.mean() > share_above
        and known[-1] > known[0]
    ):
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
    pulled = _pulled(survey, history, risen_above)
    if len(pulled) < steps_above:
        return
    share = float((pulled < pulled_below).mean())
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


def _pulled(survey: Survey, history: History, risen: float) -> np.ndarray:
    """Return w.g over the rise of the loss, of the steps where it has risen far."""
    assert history.loss is not None
    ends = [site for site in survey.sites if site.is_output]
    names = {name for site in ends for name in (site.weight, site.bias)}
    courses = [c for name, c in history.courses.items() if name in names]
    courses = courses or list(history.courses.values())
    pull = np.nansum([course.pull for course in courses], axis=0)
    loss = at(history.loss, history.steps)
    base = max(float(history.loss.values[0]), history.constant or -np.inf)
    far = (loss - base > (risen - 1) * abs(base)) & (loss > base) & np.isfinite(pull)
    return pull[far] / (loss[far] - base)
