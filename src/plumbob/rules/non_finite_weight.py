"""PB101: a parameter holds NaN or Inf."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule(
    "PB101",
    "non-finite-weight",
    Needs.WEIGHTS,
    Severity.ERROR,
    since="0.1",
    explains=("PB403",),
)
def non_finite_weight(survey: Survey) -> Iterator[Finding]:
    """A parameter holds NaN or Inf.

    Why:
        One NaN in W or b makes its unit's z = W x + b NaN for every input, and the
        next map spreads it to every unit. No gradient step mends it: NaN minus
        anything is NaN. There is no harmless count, so there is no threshold.

    Evidence:
        nans, infs: how many values are NaN and infinite, of `count`.

    Remedy:
        Go back to the last checkpoint whose parameters are finite and find the step
        that broke it; clipping afterwards does not help, it turns Inf into NaN.

    Allow when:
        Never for a parameter. A mask kept as a parameter with -inf belongs in a
        buffer.

    Example:
        >>> from nets import codes, non_finite_weight
        >>> codes(non_finite_weight(leans=True)), codes(non_finite_weight(leans=False))
        ({'PB101'}, set())

    References:
        IEEE Std 754-2019, Floating-point arithmetic, section 6.2 (NaN propagates).
    """
    for name, tensor in survey.tensors.items():
        if tensor.nans or tensor.infs:
            yield Finding(
                site=name,
                message="{nans} NaN and {infs} infinite values among {count}",
                cause="the parameter was already broken when it was read",
                evidence={
                    "nans": tensor.nans,
                    "infs": tensor.infs,
                    "count": tensor.count,
                },
                remedy=Remedy(
                    advice="Go back to the last checkpoint with finite parameters."
                ),
            )
