"""PB211: units that hardly answer to the input, before a curve without a hard zero."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool

from plumbob.remedies import redraw, set_bias
from plumbob.rule import rule
from plumbob.types import Finding, Moments, Needs, Severity, Site, Survey

# f(z) comes to rest on one side, slowly; of curves flat on both, PB203 speaks.
ONE_SIDED = {"gelu", "silu", "mish", "hardswish", "elu", "celu", "selu"}
TWO_SIDED = {"tanh", "sigmoid", "softsign", "hardtanh", "hardsigmoid"}


@rule("PB211", "dormant-unit", Needs.ACTIVATIONS, Severity.WARNING, since="0.1")
def dormant_unit(
    survey: Survey,
    *,
    score_below: float = 0.025,
    share_above: float = 0.9,
    idle_above: float = 0.5,
) -> Iterator[Finding]:
    """Most units of a layer answer to no input, though their curve has no hard zero.

    Why:
        Before GELU, SiLU, ELU and the like no unit is dead as before a ReLU, but far
        below 0 these curves are as good as constant: what such a unit hands on hardly
        depends on the input, and its gradient is multiplied by almost nothing. A unit
        with a tiny row of weights says as little, but its slope is whole and training
        can wake it: that is info.

    Evidence:
        dormant of units: those whose activation's spread E|a - E a| is below score =
        0.025 of the layer's mean spread, or that are flat; share of the layer. Where
        the mean of a is 0 this is the score of Sokar et al.; the mean itself is left
        out, since the next bias can hold it.
        flat: units whose mean slope is below score of the curve's steepest (before
        curves that are flat on one side); small: dormant ones that are not flat.
        samples: inputs, of which a thinned record was kept.
        by_bias: flat units that w.mu alone would leave less than half as far out.
        unit, b, shift (w.mu), beta (E[z]), sd: those of the dormant unit that is
        farthest out, or that varies least; balanced = -w.mu, the b where E[z] = 0.

    Args:
        score_below: as Sokar et al. have it.
        share_above: share of flat units from which it is a warning.
            Measured on nets 64-64-64-10 that learn the digits, the units of the second
            layer at b = -6 (times the epochs with momentum and with Adam): half of them
            1.0 and 1.0 with GELU, 1.1 and 1.3 with ELU; three quarters 1.6 and 1.1, 1.8
            and 1.3; nine tenths 2.5 and 2.4, 3.0 and 1.8.
        idle_above: share from which it is told at all: at 1/2 a layer half as wide
            computes all but the same.

    Remedy:
        Flat: set b to -w.mu, the middle of the curve (`plumbob.apply` does), and find
        what threw it out: the bias's initial value, the learning rate, an input that is
        not centred. Small: draw the rows at random, as large as the others'
        (`plumbob.apply` does), or make the layer narrower.

    Allow when:
        Units were pruned on purpose. Outputs, what multiplies others (a GLU's gate) and
        the gates of recurrent cells are not judged, nor is softplus: far below 0 it is
        exp(z), of which z moves every value by the same share, so that a small one is
        a scale, a step or a deviation that answers in full.

    Example:
        >>> from nets_activations import dormant_unit
        >>> from netting import codes
        >>> codes(dormant_unit(leans=True)), codes(dormant_unit(leans=False))
        ({'PB211'}, set())

    References:
        Sokar, Agarwal, Castro and Evci (2023), The dormant neuron phenomenon in deep
        reinforcement learning, definition 3.1.
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        if (
            site.activation not in ONE_SIDED | TWO_SIDED
            or site.norm is not None
            or site.is_output
            or site.gates
            or site.kind == "recurrent"
            or reading is None
            or reading.z is None
            or reading.activity is None
            or reading.samples < 29  # as PB201: 0 of 29 leaves less than a tenth
            or (reading.z.high == reading.z.low).all()  # the input's fault
        ):
            continue
        act = reading.activity
        flat = act.slope < score_below
        if site.activation in TWO_SIDED:
            flat &= False
        dormant = flat | (act.spread < score_below * act.spread.mean())
        if dormant.mean() < idle_above:
            continue
        severity = Severity.WARNING if flat.mean() >= share_above else Severity.INFO
        yield _finding(survey, site, dormant, flat, score_below, severity)


def _finding(
    survey: Survey,
    site: Site,
    dormant: Bool[Any, " out"],
    flat: Bool[Any, " out"],
    score: float,
    severity: Severity,
) -> Finding:
    reading = survey.readings[site.name]
    z: Moments | None = reading.z
    assert z is not None
    small = dormant & ~flat
    mainly_flat = flat.sum() >= small.sum()
    bias = reading.bias(site.out)
    by_bias = flat & (2 * np.abs(z.mean - bias) < np.abs(z.mean))
    far = np.abs(z.mean) if mainly_flat else -z.sd
    unit = int(np.where(flat if mainly_flat else small, far, -np.inf).argmax())
    b, beta = float(bias[unit]), float(z.mean[unit])
    at = "(unit {unit}: b = {b}, w.mu = {shift}, E[z] = {beta}, sd[z] = {sd})"
    if not mainly_flat:
        cause = f"their weights are small, the slope is whole {at}"
        remedy = redraw(
            survey,
            site,
            "Draw the weights of these units at random, as large as the others', or "
            "make the layer narrower.",
            rows=small,
            columns=np.zeros_like(small),
        )
    else:
        own = 2 * by_bias.sum() > flat.sum()
        cause = (
            f"the bias: it holds {{by_bias}} of them where the curve is flat {at}"
            if own
            else f"w.mu: the mean of x holds them where the curve is flat {at}"
        )
        remedy = set_bias(
            survey,
            site,
            ("Bring" if own else "Centre what this layer reads, or bring")
            + " these biases to -w.mu (unit {unit}: {balanced}).",
            flat,
            bias - z.mean,
        )
    return Finding(
        site=site.name,
        units=tuple(int(j) for j in np.flatnonzero(dormant)),
        message="{dormant} of {units} {units:unit|units} {dormant:answers|answer} to "
        "the input with less than {score:.1%} of what the layer does ({samples} "
        "samples)",
        cause=cause,
        evidence={
            "dormant": int(dormant.sum()),
            "units": site.out,
            "share": float(dormant.mean()),
            "score": score,
            "flat": int(flat.sum()),
            "small": int(small.sum()),
            "by_bias": int(by_bias.sum()),
            "samples": reading.samples,
            "unit": unit,
            "b": b,
            "shift": beta - b,
            "beta": beta,
            "sd": float(z.sd[unit]),
            "balanced": b - beta,
        },
        remedy=remedy,
        severity=severity,
    )
