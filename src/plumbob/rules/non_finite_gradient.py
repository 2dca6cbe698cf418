"""PB403: a gradient, or a z on the way to it, holds NaN or Inf."""

from collections.abc import Iterator
from math import isfinite

import numpy as np

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Severity, Site, Survey


@rule("PB403", "non-finite-gradient", Needs.ACTIVATIONS, Severity.ERROR, since="0.1")
def non_finite_gradient(survey: Survey) -> Iterator[Finding]:
    """A gradient holds NaN or Inf, or will: z does, where no gradients are known.

    Why:
        The step w - lr g is NaN where g is, and a norm of all gradients (clipping) is
        NaN if one is. There is no harmless count, so there is no threshold. Values
        are made in the order data, maps, loss, backward pass, so the first of these
        that is not finite is where it began:

        - x of the first map with such a z: the data (or how the model scales them),
          if no other map reaches this one, else an operation before it;
        - its z although its x is finite: the map itself, whose weights are broken
          (PB101) or whose sum overflows;
        - every z is finite and the loss is not: the targets, or the loss overflows or
          takes a root, logarithm or quotient of 0, or the mean of nothing;
        - the loss is finite too: made going backward, which visits the last map
          first: behind the last map with such a gradient, by a derivative that is
          infinite where the function is not (sqrt or norm at 0, a power at 0, acos
          at 1), or by an overflow.

        Without a loss only the first two can be told. A z that is not finite though
        the loss and all gradients are is masked on its way, and info.

    Evidence:
        parameters: how many have such a gradient, of `of` that have one; values: how
        many of their values are NaN or infinite.
        broken: how many values of z are, at the map named (0: every z is finite), at
        `units` of its units; x_broken: how many of x, in `features` of its columns.

    Remedy:
        Mend the data, or the operation: an epsilon inside the root or logarithm, a
        where() on both branches, log_softmax for log of softmax, float32 or loss
        scaling for an overflow in half precision.

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
    spoilt = {name: g for name, g in survey.gradients.items() if g.nonfinite}
    first = next((site for site in survey.sites if _broken(site, survey)), None)
    if not spoilt and first is None:
        return
    behind = [s for s in survey.sites if spoilt.keys() & {s.weight, s.bias}]
    place = first or (behind[-1] if behind else None)
    numbers = _numbers(first, survey)
    whole = isfinite(survey.about.get("loss", 0.0))  # pyright: ignore[reportArgumentType]
    cause, advice = _began(first, numbers, whole)
    yield Finding(
        site=place.name if place else next(iter(spoilt)),
        units=_broken(first, survey) if first else (),
        message="the {parameters:gradient|gradients} of {parameters} of {of} "
        "{of:parameter|parameters} {parameters:holds|hold} {values} NaN or infinite "
        "{values:value|values}"
        if spoilt
        else "z holds {broken} NaN or infinite {broken:value|values}, in {units} "
        "{units:unit|units}",
        cause=cause,
        evidence=numbers
        | {
            "parameters": len(spoilt),
            "of": sum(g.reached for g in survey.gradients.values()),
            "values": sum(g.nonfinite for g in spoilt.values()),
        },
        remedy=Remedy(advice=advice),
        severity=Severity.INFO
        if survey.gradients and not spoilt and whole
        else Severity.ERROR,
    )


def _broken(site: Site, survey: Survey) -> tuple[int, ...]:
    """Return the units whose z is not finite."""
    reading = survey.readings.get(site.name)
    if reading is None or reading.z is None:
        return ()
    return tuple(int(j) for j in np.flatnonzero(reading.z.nonfinite))


def _numbers(site: Site | None, survey: Survey) -> dict[str, int | float]:
    reading = survey.readings.get(site.name) if site else None
    z, x = (reading.z, reading.x) if reading else (None, None)
    return {
        "broken": int(z.nonfinite.sum()) if z else 0,
        "units": int((z.nonfinite > 0).sum()) if z else 0,
        "x_broken": int(x.nonfinite.sum()) if x else 0,
        "features": int((x.nonfinite > 0).sum()) if x else 0,
    }


def _began(
    site: Site | None, numbers: dict[str, int | float], whole: bool
) -> tuple[str, str]:
    """Return cause and advice by the first thing that is not finite."""
    look = "Look for an overflow, or a root, logarithm, division or power at 0, "
    if site is None and not whole:
        return (
            "every z is finite and the loss is not: the targets hold NaN or Inf, or "
            "the loss makes it going forward",
            "Check the targets; then look for an overflow, a logarithm or division "
            "of 0, or a mean of nothing in the loss.",
        )
    if site is None:
        return (
            "every z and the loss are finite: it was made going backward, behind "
            "this map",
            look + "between this map and the loss.",
        )
    some = "{x_broken} {x_broken:value|values} in {features} "
    some += "{features:feature|features}"
    if numbers["x_broken"] and site.reads_input and not site.fed_by:
        return (
            f"the data: the x of this map, the first, holds NaN or Inf ({some})",
            "Clean the data: fill in or leave out what is missing, and look for a "
            "division or logarithm of 0 where they are scaled.",
        )
    if numbers["x_broken"]:
        return (
            "going forward, its z is the first to hold NaN or Inf ({broken} "
            f"{{broken:value|values}}), and its x does already ({some})",
            look + "between the map before and this one.",
        )
    return (
        "going forward, its z is the first to hold NaN or Inf ({broken} "
        "{broken:value|values}): its sum overflows, or its weights are broken",
        "Look for NaN in its weights, for an overflow in its dtype, and for an input "
        "that is far too large.",
    )
