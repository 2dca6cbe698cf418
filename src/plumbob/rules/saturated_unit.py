"""PB203: a layer of bounded units on the flat ends of their curve."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool

from plumbob.remedies import layout, numbers, own_bias, own_weight, set_bias
from plumbob.rule import rule
from plumbob.types import (
    Finding,
    Moments,
    Needs,
    Remedy,
    Safety,
    Severity,
    Site,
    Stage,
    Survey,
)

BENDS = {"tanh", "sigmoid", "softsign", "hardtanh", "hardsigmoid"}
GATES = {"sigmoid", "hardsigmoid"}


@rule(
    "PB203",
    "saturated-unit",
    Needs.ACTIVATIONS,
    Severity.WARNING,
    since="0.1",
    explains=("PB203", "PB204", "PB211", "PB702", "PB706", "PB711", "PB718"),
)
def saturated_unit(
    survey: Survey, *, share_above: float = 0.75, stuck_above: float = 0.95
) -> Iterator[Finding]:
    """A layer of bounded units works where its curve is flat.

    Why:
        tanh and sigmoid have slope near 0 far from z = 0, and every gradient that
        passes is multiplied by it. Two things bring z there: E[z] = b + w.mu lies far
        out, so that the unit is stuck on one side and its output all but constant; or
        sd[z] is too large, so that it jumps between both sides. Stuck units are a
        fault at any time. Jumping ones are a fault in an untrained net; a trained one
        may have made itself a binary code, which works, so there it is info. So are
        gates, whose sigmoid multiplies something else: a highway's begins at -5 and a
        squeeze's at 6 on purpose.

    Evidence:
        share: values of z in the layer where the slope is below flat = 5 % of the
        steepest (|z| > 2.18 for tanh, 4.36 for sigmoid, 3.47 for softsign, 1 and 3 for
        their hard forms).
        saturated of units: those with most of their values there; stuck: those of
        them on one side of 0 for nearly all inputs.
        by_bias: stuck units that w.mu alone would leave less than half as far out.
        unit, b, shift (w.mu), beta (E[z]), sd: those of the unit whose E[z] (where
        most are stuck) or sd[z] is largest; balanced = -w.mu, the b where E[z] = 0;
        size: the root mean square of its z.
        row_norm |w| and input_sd (root mean square over features): either is near 1
        in a net begun well.

    Args:
        share_above: share of the layer's values that are saturated. At 3/4 the
            gradient's root mean square is halved at least at each such layer.
            Measured (benchmarks/leaning_units.py, times the epochs with momentum and
            with Adam): 52 % of one layer 2.6 and 1.2, 75 % no success and 2.2; by
            biases alone 42 % 2.2 and 1.7, 83 % 3.8 and 1.9.
        stuck_above: share of inputs on one side from which a unit is stuck: what it
            could tell is less than 0.3 bit.

    Remedy:
        Because of b or of w.mu: bring b to -w.mu (`plumbob.apply` does), or centre x.
        Because of the input's size: standardise it; inside the network scale down what
        feeds the layer. Because of the weights' size: divide each unit's w and b by
        the root mean square of its z (`plumbob.apply` does), and start with variance
        1 / fan_in next time.

    Allow when:
        The layer is a gate or a code that is meant to be hard. Outputs are never
        judged (a trained classifier is sure of itself), nor are the gates of
        recurrent cells, whose z is the sum of two maps and whose forget gates are
        meant to be open.

    Example:
        >>> from nets import codes, saturated_unit
        >>> codes(saturated_unit(leans=True)), codes(saturated_unit(leans=False))
        ({'PB203'}, set())

    References:
        LeCun, Bottou, Orr and Müller (1998), Efficient BackProp, sections 4.4 to 4.6.
        Glorot and Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks, section 3.
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        if (
            site.activation not in BENDS
            or site.norm is not None
            or site.is_output
            or site.kind == "recurrent"
            or reading is None
            or reading.z is None
            or reading.saturated is None
            or reading.samples < 5  # 5 of 5 says, with 95 %: on most inputs
        ):
            continue
        z, rows = reading.z, reading.rows
        share = float(reading.saturated.sum() / max(z.count.sum(), 1))
        if share < share_above:
            continue
        saturated = 2 * reading.saturated > z.count
        above = z.positive / np.maximum(z.count, 1)
        stuck = saturated & ((above >= stuck_above) | (above <= 1 - stuck_above))
        offset = 2 * stuck.sum() > len(stuck)
        bias = reading.bias(len(stuck))
        beta = z.mean
        by_bias = stuck & (2 * np.abs(beta - bias) < np.abs(beta))
        far = np.where(stuck, np.abs(beta), -1) if offset else z.sd
        unit = int(far.argmax())
        evidence: dict[str, int | float] = {
            "share": share,
            "flat": 0.05,
            "saturated": int(saturated.sum()),
            "units": len(stuck),
            "stuck": int(stuck.sum()),
            "by_bias": int(by_bias.sum()),
            "samples": reading.samples,
            "unit": unit,
            "b": float(bias[unit]),
            "shift": float(beta[unit] - bias[unit]),
            "beta": float(beta[unit]),
            "sd": float(z.sd[unit]),
            "balanced": float(bias[unit] - beta[unit]),
            "size": float(np.hypot(beta[unit], z.sd[unit])),
        }
        if reading.x is not None:
            evidence["input_sd"] = float(np.sqrt(reading.x.var.mean()))
        if rows is not None:
            evidence["row_norm"] = float(np.sqrt((rows.norm**2).mean()))
        cause, advice, own, input_too_large = _why(
            site, evidence, bool(offset), bool(2 * by_bias.sum() > stuck.sum())
        )
        fault = offset or site.stage is Stage.INIT
        fault |= input_too_large and site.stage is not Stage.TRAINED
        fault &= not (site.gates and site.activation in GATES)
        yield Finding(
            site=site.name,
            units=tuple(int(i) for i in np.flatnonzero(saturated)),
            message="{share:.0%} of the layer's values lie where the slope is below "
            "{flat:.0%} of the steepest ({saturated} of {units} {units:unit|units} "
            "mostly there, "
            "{stuck} on one side only)",
            cause=cause,
            evidence=evidence,
            remedy=set_bias(survey, site, advice, stuck, bias - beta)
            if offset
            else _scale(survey, site, advice, saturated, z)
            if own
            else Remedy(advice=advice),
            severity=Severity.WARNING if fault else Severity.INFO,
            own_cause=own,
        )


def _why(
    site: Site, evidence: dict[str, int | float], offset: bool, bias: bool
) -> tuple[str, str, bool, bool]:
    """Return cause and advice.

    Then whether the cause lies at this very site, and whether the size of the input
    alone explains it.
    """
    if offset and bias:
        return (
            "the bias: it moves {by_bias} {by_bias:unit|units} out (unit {unit}: b = "
            "{b}, w.mu = "
            "{shift}, E[z] = {beta}, sd[z] = {sd})",
            "Bring these biases to -w.mu (unit {unit}: {balanced}).",
            True,
            False,
        )
    if offset:
        return (
            "w.mu: the mean of x moves the units out (unit {unit}: w.mu = {shift}, "
            "b = {b}, E[z] = {beta}, sd[z] = {sd})",
            ("Centre x" if site.reads_input else "Put a norm before this map")
            + ", or bring these biases to -w.mu (unit {unit}: {balanced}).",
            False,
            False,
        )
    norm, spread = evidence.get("row_norm", 1.0), evidence.get("input_sd", 1.0)
    sizes = ", ".join(
        text
        for name, text in (
            ("row_norm", "|w| is {row_norm:.3g}"),
            ("input_sd", "the input's sd {input_sd:.3g}"),
        )
        if name in evidence
    )
    told = "(unit {unit}: sd[z] = {sd}" + (f"; {sizes})" if sizes else ")")
    if spread > norm:
        return (
            f"the input's size spreads z over both sides {told}",
            "Divide each input feature by its standard deviation."
            if site.reads_input
            else "Scale down what feeds it"
            + (f" ({', '.join(site.fed_by)})" if site.fed_by else "")
            + ", or put a norm before it.",
            False,
            spread > 2,
        )
    return (
        f"the weights' size spreads z over both sides {told}",
        "Divide the weights and the bias of each of these units by the root mean "
        "square of its z (unit {unit}: {size}), which is as an initialisation with "
        "variance 1 / fan_in leaves it, or lower the learning rate that let them grow.",
        True,
        False,
    )


def _scale(
    survey: Survey, site: Site, advice: str, units: Bool[Any, " out"], z: Moments
) -> Remedy:
    """Return the remedy that brings the mean square of each unit's z to 1."""
    size = np.hypot(z.mean, z.sd)
    if (
        site.kind not in {"linear", "conv", "conv-transpose"}
        or not own_weight(survey, site)
        or (site.bias and own_bias(survey, site) is None)
        or not np.isfinite(size[units]).all()
    ):
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="rescale-units",
        arguments={
            "site": layout(site),
            "units": numbers(units),
            "factors": tuple(float(1 / size[unit]) for unit in numbers(units)),
        },
    )
