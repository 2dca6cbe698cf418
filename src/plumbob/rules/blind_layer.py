"""PB204: a layer of ReLU units whose gates tell nothing."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.remedies import shift_bias
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Reading, Severity, Site, Survey

GATED = {"relu", "relu6", "leaky_relu", "prelu"}


@rule(
    "PB204",
    "blind-layer",
    Needs.ACTIVATIONS,
    Severity.WARNING,
    since="0.1",
    explains=("PB204", "PB211"),
)
def blind_layer(
    survey: Survey,
    *,
    bits_below: float = 0.1,
    changes_below: float = 1.0,
    resting_above: float = 0.9,
) -> Iterator[Finding]:
    """Nearly every gate of a layer stands the same for nearly all inputs.

    Why:
        A ReLU multiplies z by its gate, 1 where z > 0. A gate that is open for a share
        p of the inputs tells h2(p) = -p log2 p - (1 - p) log2(1 - p) bits, 1 at p = 1/2
        and 0.08 at p = 0.01. Where no gate of a layer ever changes, the layer is one
        affine map of its open units; where nearly all are shut, little passes and each
        unit learns from few inputs. The bias that makes a gate tell most is minus the
        median of w.x: half of the inputs then lie on either side. Sparse codes are
        not blind: each unit is rarely open, but some unit is on every input.
        Measured on nets 64-64-64-10 that learn the digits, from such biases (times the
        epochs with momentum and with Adam): nine tenths or more of the second layer
        all but shut 2.3 and 1.7 (rate 0.8 %), both layers half shut, half open 2.8 and
        1.5; the second alone half shut, half open 1.0 and 0.8, so that is info. Both
        were slower still on the moons (2.7 and 6.4). Where not b but w.mu holds the
        gates it is info as well: a net on one number, begun with b = 0, is linear on
        either side of 0 until its biases have moved, and they do.

    Evidence:
        bits: the mean of h2(p) over units, of at most 1; total: the sum, which no
        entropy of the layer's pattern of gates exceeds.
        changes: sum of min(p, 1 - p) over units: of so many gates, on average, an input
        finds not as they usually stand; same = 1 - changes: for such a share of the
        inputs, or more, the layer is one and the same affine map.
        blind of units: those whose own h2(p) is below half = 0.5 bit (p beyond 0.11 and
        0.89); open, shut: how they stand.
        by_bias: blind units whose gate would tell that much at b = 0, were z normal;
        unit, b, shift (w.mu), beta (E[z]), sd, best (minus the median of w.x): those of
        the unit farthest from it; samples.

    Args:
        bits_below: mean bits per gate below which a layer is blind. A tenth of what
            gates can tell is p = 0.013. Set after the measurements above.
        changes_below: below 1 most inputs may find every gate as it usually stands.
            Sparse codes have several open units on each input.
        resting_above: share of the units that are shut from which it is a warning, the
            share of PB201.

    Remedy:
        Bring b to minus the median of w.x (`plumbob.apply` does, by a thinned record of
        z), and find what threw it out: its initial value, an input that is not
        centred, or the learning rate. In a net whose layers are all blind, but half
        open, it is a linear model; if that is enough, say so with one layer.

    Allow when:
        The layer is meant to be linear on these data, or to be silent but for rare
        inputs.

    Example:
        >>> from nets_activations import blind_layer
        >>> from netting import codes
        >>> codes(blind_layer(leans=True)), codes(blind_layer(leans=False))
        ({'PB204'}, set())

    References:
        Shannon (1948), A mathematical theory of communication, section 6. Montúfar,
        Pascanu, Cho and Bengio (2014), On the number of linear regions of deep neural
        networks, section 2.
    """
    rates = {
        site.name: rate
        for site in survey.sites
        if (rate := _rates(site, survey)) is not None
    }
    blind = {
        name
        for name, p in rates.items()
        if _bits(p).mean() < bits_below and np.minimum(p, 1 - p).sum() < changes_below
    }
    bends = {s.name for s in survey.sites if s.activation and not s.is_output}
    affine = bends <= blind and not survey.bends
    for site in survey.sites:
        if site.name in blind:
            rests = float((rates[site.name] < 1 / 2).mean()) >= resting_above
            yield _finding(survey, site, rates[site.name], rests=rests, affine=affine)


def _bits(p: Float[Any, " out"]) -> Float[Any, " out"]:
    """Return the entropy of gates that are open with rate p."""
    sides = np.stack([p, 1 - p])
    return -(sides * np.log2(np.where(sides > 0, sides, 1))).sum(axis=0)


def _rates(site: Site, survey: Survey) -> Float[Any, " out"] | None:
    """Return the share of open gates per unit; None where it is not to be judged.

    Few samples say nothing, nor do inputs that do not vary; what multiplies others is
    open or shut on purpose, and so may an output be.
    """
    reading = survey.readings.get(site.name)
    if (
        site.activation not in GATED
        or site.norm is not None
        or site.is_output
        or site.gates
        or reading is None
        or reading.z is None
        or reading.samples < 29  # as PB201: 0 of 29 leaves less than a tenth
    ):
        return None
    z = reading.z
    if not (z.count > 0).all() or z.nonfinite.any() or (z.high == z.low).mean() > 1 / 2:
        return None
    return z.positive / z.count


def _finding(
    survey: Survey,
    site: Site,
    p: Float[Any, " out"],
    *,
    rests: bool,
    affine: bool,
) -> Finding:
    reading = survey.readings[site.name]
    z = reading.z
    assert z is not None
    bits, bias = _bits(p), reading.bias(len(p))
    half = 1 / 2
    sd = np.where(z.sd > 0, z.sd, 1)
    blind = bits < half
    by_bias = blind & (np.abs(z.mean - bias) / sd < 1.23)  # h2(Phi(1.23)) = 1/2
    best = bias - _median(reading)
    worst = int(np.where(blind, np.abs(z.mean) / sd, -1).argmax())
    b, beta = float(bias[worst]), float(z.mean[worst])
    mainly_bias = 2 * by_bias.sum() > blind.sum()
    at = "(unit {unit}: b = {b}, w.mu = {shift}, E[z] = {beta}, sd[z] = {sd})"
    changes = float(np.minimum(p, 1 - p).sum())
    told = (
        "hardly any unit is ever open"
        if rests
        else "the network is all but one affine map on these data"
        if affine
        else "the layer is all but one affine map on these data"
    )
    return Finding(
        site=site.name,
        units=tuple(int(unit) for unit in np.flatnonzero(blind)),
        message="the gates of {units} {units:unit|units} tell {bits:.2g} bits each: on "
        "{same:.0%} of {samples} samples or more all stand as they usually do ({open} "
        f"of {{blind}} open, {{shut}} shut), so {told}",
        cause=f"the bias: {{by_bias}} of them would change without it {at}"
        if mainly_bias
        else f"w.mu: the mean of x holds them on one side {at}",
        evidence={
            "bits": float(bits.mean()),
            "total": float(bits.sum()),
            "changes": changes,
            "same": 1 - changes,
            "half": half,
            "blind": int(blind.sum()),
            "units": len(p),
            "open": int((blind & (p > half)).sum()),
            "shut": int((blind & (p < half)).sum()),
            "by_bias": int(by_bias.sum()),
            "samples": reading.samples,
            "unit": worst,
            "b": b,
            "shift": beta - b,
            "beta": beta,
            "sd": float(z.sd[worst]),
            "best": float(best[worst]),
        },
        remedy=shift_bias(
            survey,
            site,
            ("" if mainly_bias else "Centre the input of this layer, or ")
            + ("Bring" if mainly_bias else "bring")
            + " each bias to minus the median of w.x, where half of the inputs open "
            "the gate (unit {unit}: {best}).",
            blind,
            best - bias,
        ),
        own_cause=bool(mainly_bias),
        severity=Severity.WARNING
        if mainly_bias and (rests or affine)
        else Severity.INFO,
    )


def _median(reading: Reading) -> Float[Any, " out"]:
    """Return the median of z as kept, else its mean, which it is if z is symmetric."""
    assert reading.z is not None
    return reading.z.mean if reading.activity is None else reading.activity.median
