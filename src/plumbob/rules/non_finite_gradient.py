"""PB403: a gradient holds NaN or Inf."""

from collections.abc import Iterator

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Survey


@rule("PB403", "non-finite-gradient", Needs.GRADIENTS, Severity.ERROR, since="0.1")
def non_finite_gradient(survey: Survey) -> Iterator[Finding]:
    """A gradient holds NaN or Inf; the next step would spread it over the weights.

    Why:
        The step w - lr g is NaN where g is, and a norm of all gradients (clipping) is
        NaN if one is. There is no harmless count, so there is no threshold. Going
        forward the first map whose z is not finite made it. If every z is finite it
        was made going backward, which visits the last map first: behind the last map
        with a non-finite gradient, by a derivative that is infinite where the
        function is not (sqrt or norm at 0, log and a power at 0, acos at 1), or by
        an overflow.

    Evidence:
        parameters: how many have such a gradient, of `of` that have one.
        values: how many of their values are NaN or infinite.
        broken: how many values of z are, at the map named (0: made going backward).

    Remedy:
        Mend the operation: an epsilon inside the root or logarithm, a where() on both
        branches, log_softmax for log of softmax, float32 or loss scaling for an
        overflow in half precision.

    Allow when:
        An automatic loss scaler is still searching: it skips such steps.

    Example:
        >>> from nets import codes, non_finite_gradient
        >>> leans, plumb = (non_finite_gradient(leans=x) for x in (True, False))
        >>> codes(leans), codes(plumb)
        ({'PB403'}, set())

    References:
        IEEE Std 754-2019, Floating-point arithmetic, section 6.2 (NaN propagates).
        Micikevicius et al. (2018), Mixed precision training, section 3.2.
    """
    broken = {name: g for name, g in survey.gradients.items() if g.nonfinite}
    if not broken:
        return
    forward = [
        (site, int(reading.z.nonfinite.sum()))
        for site in survey.sites
        if (reading := survey.readings.get(site.name)) and reading.z is not None
    ]
    first = next(((site, n) for site, n in forward if n), None)
    behind = [s for s in survey.sites if broken.keys() & {s.weight, s.bias}]
    if first is not None:
        cause = "going forward, its z is the first to hold NaN or Inf ({broken} values)"
    else:
        cause = "every z is finite: it was made going backward, behind this map"
    place = (
        first[0].name if first else behind[-1].name if behind else next(iter(broken))
    )
    yield Finding(
        site=place,
        message="the gradients of {parameters} of {of} parameters hold {values} NaN or "
        "infinite values",
        cause=cause,
        evidence={
            "parameters": len(broken),
            "of": sum(g.reached for g in survey.gradients.values()),
            "values": sum(g.nonfinite for g in broken.values()),
            "broken": first[1] if first else 0,
        },
        remedy=Remedy(
            advice="Look for an overflow, or a root, logarithm, division or power at "
            "0, "
            + ("in or before this map" if first else "between this map and the loss")
            + "."
        ),
    )
