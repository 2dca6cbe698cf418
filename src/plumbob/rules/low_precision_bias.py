"""PB105: an offset of z that takes the digits of its spread, in 16 bits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.remedies import shift_bias
from plumbob.rule import rule
from plumbob.types import Finding, Moments, Needs, Reading, Remedy, Severity, Survey

DIGITS = {"bfloat16": 7, "float16": 10, "float8_e4m3fn": 3, "float8_e5m2": 2}


@rule("PB105", "low-precision-bias", Needs.ACTIVATIONS, Severity.WARNING, since="0.1")
def low_precision_bias(
    survey: Survey, *, error_above: float = 0.05, levels_below: float = 2.0
) -> Iterator[Finding]:
    """In half of a layer's units E[z] is so large that rounding blurs what varies.

    Why:
        A number of m binary digits near v is rounded to a multiple of 2^(k - m), where
        2^k is v's power of two, whatever the digits are needed for. Where E[z] is a
        hundred times sd[z], bfloat16 leaves a handful of different values of z. What
        removes the offset afterwards (a norm, the next bias) cannot bring the digits
        back: in exact arithmetic the bias would be harmless there.

    Evidence:
        blurred of units: those whose rounding error, the gap between neighbouring
        numbers at E[z] over sqrt(12) (the standard deviation of what lies anywhere
        between two), is above `limit` of sd[z]; share of the layer.
        by_bias: those of them that w.mu alone would leave less than half as far out.
        digits: of the dtype in which z is computed, behind the leading one.
        unit, b, shift (w.mu), beta (E[z]), sd (of z; where z takes one value, |w| times
        the root mean square of x's), gap, error (over sd), levels (how many
        values fit within 2 sd[z], from one sd below E[z] to one above): those of the
        unit that is the median one of the blurred by its error; balanced = -w.mu.

    Args:
        error_above: rounding error over sd[z] from which a unit is blurred. At 0.05
            rounding adds 0.25 % to the variance, as 9 digits would that cover 6 sd
            plus nothing else: harmless, but all a network has in reserve.
        levels_below: values of z within 2 sd[z] below which it is a warning: with
            fewer than 2 most inputs are told apart by nothing in this unit.
            Measured on nets 64-64-64-10 with batch norm that learn the digits under
            autocast to bfloat16, biases before the norms raised (times the epochs with
            momentum and with Adam): 9 values 1.3 and 1.0, 2.3 values 1.8 and 1.4, 0.6
            values 4.3 and 4.0, 0.3 no success. The limit was set after that.

    Remedy:
        Bring b to -w.mu, so that E[z] = 0 (`plumbob.apply` does; before a batch norm
        that changes nothing in exact arithmetic), centre the input, or compute this
        layer in float32.

    Allow when:
        The unit is meant to be constant.

    Example:
        >>> from nets_weights import low_precision_bias
        >>> from netting import codes
        >>> leans, plumb = (codes(low_precision_bias(leans=on)) for on in (True, False))
        >>> leans - plumb
        {'PB105'}

    References:
        IEEE Std 754-2019, Floating-point arithmetic, section 4.3 (rounding). Goldberg
        (1991), What every computer scientist should know about floating-point
        arithmetic, section on cancellation.
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        digits = DIGITS.get(str(reading.dtype)) if reading else None
        if reading is None or reading.z is None or digits is None:
            continue
        z = reading.z
        if site.kind in {"embedding", "norm"} or site.is_output:
            continue
        gap = _gap(z, digits)
        sd_of = _spread(reading, z)
        varies = sd_of > 0
        error = np.where(varies, gap / np.sqrt(12) / np.where(varies, sd_of, 1), 0)
        blurred = error > error_above
        if 2 * blurred.sum() <= len(blurred):
            continue
        bias = reading.bias(len(blurred))
        by_bias = blurred & (2 * np.abs(z.mean - bias) < np.abs(z.mean))
        own = 2 * by_bias.sum() > blurred.sum()
        units = np.flatnonzero(blurred)
        unit = int(units[np.argsort(error[units], kind="stable")[len(units) // 2]])
        b, beta, sd = float(bias[unit]), float(z.mean[unit]), float(sd_of[unit])
        levels = 2 * sd / float(gap[unit])
        at = "(unit {unit}: b = {b}, w.mu = {shift}, E[z] = {beta}, sd[z] = {sd})"
        advice = (
            "Bring" if own else "Centre what this layer reads, or bring"
        ) + " b to -w.mu (unit {unit}: {balanced}), or compute this layer in float32."
        yield Finding(
            site=site.name,
            units=tuple(int(j) for j in units),
            message="in {blurred} of {units} units rounding to {digits} binary digits "
            "costs more than {limit:.0%} of sd[z] (unit {unit}: {error:.0%}, so z "
            "takes some {levels:.1f} values within one sd of its mean)",
            cause=(
                f"the bias: it holds {{by_bias}} of them far from 0 {at}"
                if own
                else f"w.mu: the mean of x holds them far from 0 {at}"
            ),
            evidence={
                "blurred": len(units),
                "units": len(blurred),
                "share": float(blurred.mean()),
                "limit": error_above,
                "by_bias": int(by_bias.sum()),
                "digits": digits,
                "unit": unit,
                "b": b,
                "shift": beta - b,
                "beta": beta,
                "sd": sd,
                "gap": float(gap[unit]),
                "error": float(error[unit]),
                "levels": levels,
                "balanced": b - beta,
            },
            remedy=shift_bias(survey, site, advice, blurred, -z.mean)
            if site.bias
            else Remedy(advice=advice),
            severity=Severity.WARNING if levels < levels_below else Severity.INFO,
        )


def _spread(reading: Reading, z: Moments) -> Float[Any, " out"]:
    """Return sd[z]; where rounding has left one value of z, what w and x would give."""
    if reading.rows is None or reading.x is None:
        return z.sd
    wanted = reading.rows.norm * np.sqrt(reading.x.var.mean())
    return np.where(z.sd > 0, z.sd, wanted)


def _gap(z: Moments, digits: int) -> Float[Any, " out"]:
    """Return the distance of neighbouring numbers at E[z]."""
    size = np.maximum(np.abs(z.mean), 1e-30)
    return 2.0 ** (np.floor(np.log2(size)) - digits)
