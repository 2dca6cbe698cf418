"""PB201: ReLU units that never fire."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool

from plumbob.paths import reached, readers
from plumbob.remedies import DUST, layout, numbers, own_weight, set_bias
from plumbob.rule import rule
from plumbob.types import (
    Finding,
    Needs,
    Reading,
    Remedy,
    Safety,
    Severity,
    Site,
    Survey,
)


@rule(
    "PB201",
    "dead-relu",
    Needs.ACTIVATIONS,
    Severity.ERROR,
    since="0.1",
    explains=(
        "PB201",
        "PB202",
        "PB203",
        "PB204",
        "PB206",
        "PB211",
        "PB702",
        "PB708",
        "PB711",
        "PB718",
    ),
)
def dead_relu(
    survey: Survey,
    *,
    fires_below: float = 0.1,
    share_above: float = 0.9,
    idle_above: float = 0.5,
) -> Iterator[Finding]:
    """Units before a ReLU never fire, so nothing passes them, forwards or backwards.

    Why:
        A ReLU has slope 0 where z <= 0. A unit that fires on no input has gradient
        zero in w and b and no step revives it; so has one of a ReLU6 that stays at 6
        or above on every input. A layer in which no unit fires cuts
        everything before it off: an error, unless another path (a residual sum)
        leads around it. An output unit that is dead though its targets are above 0
        never learns them: a warning, be it one alone. Death belongs to w, b and the
        inputs together, so it is counted from z, never read from b.

    Evidence:
        dead of units: how many never fired on `samples` independent inputs, at any
        position; share of the layer; wanted: those of the output whose mean target (or
        class) is above 0.
        fires_at_most: the upper limit of Clopper and Pearson (sure = 95 %) for a rate
        of 0 in n, 1 - 0.05^(1/n), about 3/n.
        stuck: those of them that stay at 6 or above, where a ReLU6 is flat.
        by_bias: dead units that would not be so without b; by_weights: those that w
        and the mean of x hold down without any help of b; by_input: those whose
        input does not vary; by_zeros: those whose weights are zero, or so small that
        nothing of an input that varies is left beside b.
        unit, b, shift (w.mu), beta (E[z]), sd, low, high (of z): those of the unit
        whose best input is farthest from a slope; balanced = -w.mu, the b where
        E[z] = 0.

    Args:
        fires_below: the largest rate that may still be possible. A unit learns from
            the inputs it fires on; at a tenth it sees a fifth of what one with rate
            1/2 sees. 0 of n rules that out from n = 29: smaller samples, no verdict.
        share_above: share of dead units from which it is a warning. The gain of a
            layer falls by sqrt(1 - share): 3.2 at 0.9, more than the 2.4 between He's
            and torch's initial weights, with both of which nets train. Measured on a
            layer 64 wide (benchmarks/leaning_units.py): 50 % dead costs nothing, 75 %
            1.9 times the epochs with momentum and 1.1 with Adam, 90 % 2.9 and 2.8.
        idle_above: share from which it is told at all. A few dead units are ordinary
            (4 % at the eighth layer of a healthy He net); at 1/2 a layer half as wide
            computes the same function.

    Remedy:
        Because of b: set b to -w.mu, where half of the inputs fire (`plumbob.apply`
        does), and lower the learning rate that threw it out. Because of w.mu: the same,
        or centre the input, inside the network by a norm. Because of the input: revive
        what feeds it, by hand. Because of zeros: draw the weights anew, by He's scheme.

    Allow when:
        Units were pruned on purpose, or the data given are not those of training.

    Example:
        >>> from nets import codes, dead_relu
        >>> codes(dead_relu(leans=True)), codes(dead_relu(leans=False))
        ({'PB201'}, set())

    References:
        Clopper and Pearson (1934), The use of confidence or fiducial limits, section
        3. Hanley and Lippman-Hand (1983), If nothing goes wrong, is everything all
        right? Lu, Shin, Su and Karniadakis (2020), Dying ReLU and initialization.
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        never = _dead(site, survey)
        if reading is None or never is None:
            continue
        share = float(never.mean())
        at_most = 1 - 0.05 ** (1 / max(reading.samples, 1))
        wanted = _wanted(site, survey, never)
        if at_most > fires_below or (share < idle_above and not wanted):
            continue
        cut = bool(never.all()) and _only_way(site, survey)
        yield _finding(
            survey,
            site,
            never,
            {
                "samples": reading.samples,
                "fires_at_most": at_most,
                "share": share,
                "wanted": wanted,
            },
            Severity.ERROR
            if cut
            else Severity.WARNING
            if share >= share_above or wanted
            else Severity.INFO,
        )


def _dead(site: Site, survey: Survey) -> Bool[Any, " units"] | None:
    """Return the units that have no slope on any input; None where there is no ReLU.

    A norm between the map and its ReLU is a site of its own, with its own z.
    """
    z = reading.z if (reading := survey.readings.get(site.name)) else None
    if z is None or site.activation not in {"relu", "relu6"} or site.norm is not None:
        return None
    flat = z.positive == 0
    if site.activation == "relu6":
        flat |= z.low >= 6
    return flat & (z.count > 0) & (z.nonfinite == 0)


def _wanted(site: Site, survey: Survey, never: Bool[Any, " units"]) -> int:
    """Return how many dead units of the output have targets above 0."""
    target = survey.output.mean_target if survey.output else None
    if not site.is_output or target is None or len(target) != len(never):
        return 0
    return int((never & (target > 0)).sum())


def _only_way(site: Site, survey: Survey) -> bool:
    """Return whether every known path from the input to an output passes the site."""
    after = readers(survey)
    # a map before a norm of its own is not the last
    outputs = {
        s.name for s in survey.sites if s.is_output and not (s.norm and after[s.name])
    }
    if site.name in outputs:
        return outputs == {site.name}
    first = [s.name for s in survey.sites if s.reads_input or not s.fed_by]
    return bool(outputs) and not outputs & reached(first, after, without=site.name)


def _finding(
    survey: Survey,
    site: Site,
    dead: Bool[Any, " units"],
    evidence: dict[str, int | float],
    severity: Severity,
) -> Finding:
    reading = survey.readings[site.name]
    z = reading.z
    assert z is not None
    bias = reading.bias(len(dead))
    still = dead & (z.low == z.high)
    by_zeros = still & _zeros(reading, len(dead))
    stuck = dead & (z.positive > 0)
    # how far the best input is from a slope, as it is and without b
    reach = np.where(stuck, 6 - z.low, z.high)
    by_bias = dead & ~still & (reach > np.where(stuck, -bias, bias))
    by_weights = dead & ~still & ~by_bias
    counts = {
        "by_input": int((still & ~by_zeros).sum()),
        "by_zeros": int(by_zeros.sum()),
        "by_bias": int(by_bias.sum()),
        "by_weights": int(by_weights.sum()),
    }
    main = max(counts, key=lambda name: counts[name])
    group = {
        "by_input": still & ~by_zeros,
        "by_zeros": by_zeros,
        "by_bias": by_bias,
        "by_weights": by_weights,
    }[main]
    far = np.where(group, reach / np.where(z.sd > 0, z.sd, 1), np.inf)
    worst = int(far.argmin())
    b, beta = float(bias[worst]), float(z.mean[worst])
    fire, fires, off = "{dead:fires|fire}", "{by_bias:fires|fire}", "off"
    if stuck.any():
        fire = "{dead:leaves|leave} 0 or 6 ({stuck} at 6)"
        fires, off = "{by_bias:does|do}", "there"
    after = readers(survey)
    before = [
        s.name
        for s in survey.sites
        if site.name in after[s.name]
        and (never := _dead(s, survey)) is not None
        and never.all()
    ]
    cause, advice = {
        "by_input": (
            "the input: it is the same for every sample, so z = {beta} always"
            + (f", because {before[0]} is dead" if before else ""),
            f"Revive {before[0]} first."
            if before
            else "Feed inputs that vary, or give the units a b above -w.mu "
            "(unit {unit}: {balanced}).",
        ),
        "by_zeros": (
            "the weights: those of {by_zeros} {by_zeros:unit|units} are zero, or "
            "vanish beside the bias, so z = {beta} always",
            "Draw these units' weights at random (variance set by fan_in), and find "
            "what made them zero: their initial value or a weight decay.",
        ),
        "by_bias": (
            f"the bias: {{by_bias}} of them {fires} without it (unit {{unit}}: b = "
            "{b}, w.mu = {shift}, so E[z] = {beta} where sd[z] = {sd})",
            "Set each of these biases to -w.mu, where about half of the inputs fire "
            "(unit {unit}: {balanced}), and find what threw them out: their "
            "initial value or the learning rate.",
        ),
        "by_weights": (
            f"w.mu: {{by_weights}} of them {{by_weights:stays|stay}} {off} without any "
            "bias, because the input is not centred (unit {unit}: w.mu = {shift}, "
            "b = {b}, sd[z] = {sd})",
            (
                "Subtract the mean of the input"
                if site.reads_input
                else "Put a norm before this map"
            )
            + ", or set these biases to -w.mu (unit {unit}: {balanced}).",
        ),
    }[main]
    return Finding(
        site=site.name,
        units=tuple(int(unit) for unit in np.flatnonzero(dead)),
        message=f"{{dead}} of {{units}} {{units:unit|units}} never {fire} on "
        "{samples} {samples:sample|samples} ({sure:.0%} sure: each on fewer than "
        "{fires_at_most:.1%} of all inputs)",
        cause=cause,
        evidence=evidence
        | counts
        | {
            "sure": 0.95,
            "dead": int(dead.sum()),
            "stuck": int(stuck.sum()),
            "units": len(dead),
            "unit": worst,
            "b": b,
            "shift": beta - b,
            "beta": beta,
            "sd": float(z.sd[worst]),
            "low": float(z.low[worst]),
            "high": float(z.high[worst]),
            "balanced": b - beta,
        },
        remedy=Remedy(advice=advice)
        if main == "by_input"
        else _drawn(survey, site, advice, by_zeros)
        if main == "by_zeros"
        else set_bias(survey, site, advice, dead & ~still, bias - z.mean),
        severity=severity,
        own_cause=main in {"by_bias", "by_zeros"},
    )


def _zeros(reading: Reading, units: int) -> Bool[Any, " units"]:
    """Return the units of zeros, and all where the input varies, if z does not."""
    x = reading.x
    if x is not None and bool((x.sd > DUST * np.abs(x.mean)).any()):
        return np.ones(units, bool)
    return reading.rows.norm == 0 if reading.rows else np.zeros(units, bool)


def _drawn(
    survey: Survey, site: Site, advice: str, units: Bool[Any, " units"]
) -> Remedy:
    if not own_weight(survey, site):
        return Remedy(advice=advice)
    return Remedy(
        advice=advice,
        safety=Safety.CHANGES_TRAINING,
        act="redraw-units",
        arguments={"site": layout(site), "rows": numbers(units)},
    )
