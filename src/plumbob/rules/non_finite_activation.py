"""PB208: where a value first stops being a finite number, going forward."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Break, Finding, Needs, Remedy, Severity, Survey

RANGE = "of {dtype}, whose largest number is {limit:.3g}"
CAME = "(what came in lies in {low:.4g} to {high:.4g})"
# cause -> what happened, what to do
CAUSES = {
    "input": (
        "the data: the input itself holds NaN or Inf",
        "Clean the data: fill in or leave out what is missing, and look for a division "
        "or logarithm of 0 where they are scaled.",
    ),
    "target": (
        "the data: the targets hold NaN or Inf",
        "Clean the targets: fill in or leave out what is missing.",
    ),
    "weight": (
        "the weights: {parameter} holds NaN or Inf",
        "Go back to a checkpoint from before {parameter} broke, and look for what "
        "broke it.",
    ),
    "constant": (
        "a constant or a buffer that it reads holds NaN or Inf",
        "Look at the buffers of this module: running statistics, masks, tables.",
    ),
    "overflow": (
        f"overflow: the result leaves the range {RANGE} {CAME}",
        "Scale down what comes in (its mean, its size, the learning rate that let the "
        "weights grow), put a norm before it, or compute it in a wider dtype.",
    ),
    "exponential": (
        f"overflow of an exponential: it leaves the range {RANGE} {CAME}",
        "Take a softmax, a log-softmax or a log-sum-exp, which subtract the largest "
        "value first, or bound what comes in.",
    ),
    "zero-by-zero": (
        "a division of 0 by 0",
        "Add a small number to the denominator, or leave out what is empty.",
    ),
    "division-by-zero": (
        "a division by 0",
        "Add a small number to the denominator, or leave out what is empty.",
    ),
    "log-of-zero": (
        f"a logarithm of 0 {CAME}",
        "Use a loss of the net input itself (the with-logits form, log-softmax), or "
        "keep what comes in above a small number.",
    ),
    "log-of-negative": (
        f"a logarithm of a negative number {CAME}",
        "Put in probabilities: a sigmoid or softmax, or a loss of the net input.",
    ),
    "root-of-negative": (
        f"a root or power of a negative number {CAME}",
        "Keep what comes in at a small number or above, or square it.",
    ),
    "masked-row": (
        "a softmax over a row that is masked as a whole",
        "Leave one entry of each row unmasked, or use a large negative number instead "
        "of minus infinity.",
    ),
    "nothing": (
        "a mean over no values at all",
        "Leave out what is empty: masks that let nothing pass, empty groups.",
    ),
    "one-value": (
        "a standard deviation of one value, or a mean of what is not finite",
        "Take more values, or the biased form that divides by their number.",
    ),
    "outside-domain": (
        f"an argument outside the function's domain {CAME}",
        "Clamp what comes in to the domain, a little inside its ends.",
    ),
    "other": (
        f"the operation gives NaN for what it was given {CAME}",
        "Look at what this operation reads, and compute it in float64 to compare.",
    ),
}


@rule(
    "PB208",
    "non-finite-activation",
    Needs.ACTIVATIONS,
    Severity.ERROR,
    since="0.1",
    explains=("PB403",),
)
def non_finite_activation(survey: Survey) -> Iterator[Finding]:
    """A value of the forward pass is NaN or infinite; here is where it begins.

    Why:
        One NaN makes the loss NaN, one step later all weights. Everything after the
        first bad operation is its consequence, so that alone is worth knowing: the run
        is repeated operation by operation, and what is not finite in the loss or the
        output is followed back to where finite numbers went in. A minus infinity that
        masks an attention score and ends in a softmax is meant, and no finding. Values
        that no output shows are info.

    Evidence:
        values of the `of` numbers that the operation gave are not finite, nans of them
        NaN; low, high: the ends of the finite values that it read; limit: the
        largest number of its dtype.

    Remedy:
        By hand, by cause: overflow, a division by 0, a logarithm or root outside its
        domain, a row that is masked as a whole, a broken weight, or the data.

    Allow when:
        Never: find out what it is.

    Example:
        >>> from nets_activations import non_finite_activation
        >>> from netting import codes
        >>> case = non_finite_activation
        >>> codes(case(leans=True)), codes(case(leans=False))
        ({'PB208', 'PB403'}, set())

    References:
        IEEE Std 754-2019, Floating-point arithmetic, sections 6.1, 6.2 and 7. Goldberg
        (1991), What every computer scientist should know about floating-point
        arithmetic, section on NaNs and infinity.
    """
    found = survey.first_break
    if found is None:
        return
    cause, advice = CAUSES[found.cause]
    names = {"{dtype}": found.dtype, "{parameter}": found.parameter or "a weight"}
    for name, text in names.items():
        cause, advice = cause.replace(name, text), advice.replace(name, text)
    whole = found.nans == found.values
    what = "NaN" if whole else "NaN or infinite" if found.nans else "infinite"
    yield Finding(
        site=_site(found, survey),
        message=f"{_where(found)} the first values that are not finite appear: "
        f"{{values}} of {{of}} are {what}, and so is "
        + {
            "loss": "the loss",
            "output": "the output",
            "inside": "what is computed from them, though no output shows it",
        }[found.reaches],
        cause=cause,
        evidence={
            "values": found.values,
            "nans": found.nans,
            "of": found.of,
            "low": found.low,
            "high": found.high,
            "limit": found.limit,
        },
        remedy=Remedy(advice=advice),
        severity=Severity.INFO if found.reaches == "inside" else Severity.ERROR,
    )


def _where(found: Break) -> str:
    doing = f" ({found.operation})" if found.operation else ""
    if found.cause == "input":
        return "in the input"
    if found.cause == "target":
        return "in the targets"
    if found.place is None:
        return f"in the loss{doing}"
    return f"in {found.place or 'the model itself'}{doing}"


def _site(found: Break, survey: Survey) -> str | None:
    """Return the map that reads the parameter, else the module; None: the whole."""
    for site in survey.sites:
        if found.parameter and found.parameter in {site.weight, site.bias}:
            return site.name
    return found.place or None
