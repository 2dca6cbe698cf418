"""PB202: ReLU units that always fire."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool

from plumbob.remedies import set_bias
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Site, Survey


@rule(
    "PB202",
    "linear-relu",
    Needs.ACTIVATIONS,
    Severity.WARNING,
    since="0.1",
    explains=("PB204",),
)
def linear_relu(
    survey: Survey, *, rests_below: float = 0.1, share_above: float = 0.9
) -> Iterator[Finding]:
    """Nearly all units before a ReLU fire on every input: the layer acts linearly.

    Why:
        Where z > 0 a ReLU is the identity (a ReLU6 up to 6). A layer whose units
        never rest is the affine map W x + b and could be multiplied into the next
        one. A trained net may hold one such layer among others and work, so that is
        info; where every ReLU of the network is so and nothing else bends (no norm
        over features, pool, attention or product), the network is one affine
        map on these data and learns no more than a linear model: a warning. Measured
        on the moons with the biases of both hidden layers so at initialisation
        (benchmarks/leaning_units.py): no success with momentum, 15 times the epochs
        with Adam.

    Evidence:
        linear of units: how many fired on all of `samples` independent inputs, at
        every position; share of the layer.
        rests_at_most: the upper 95 % limit of Clopper and Pearson for a rate of 0 in
        n, 1 - 0.05^(1/n), about 3/n.
        by_bias: units that would rest without b (min z < b); by_weights: those that w
        and the mean of x hold up without any help of b.
        unit, b, shift (w.mu), beta (E[z]), sd, low (min z): those of the unit whose
        worst input is farthest from resting; balanced = -w.mu, the b where E[z] = 0.

    Args:
        rests_below: the largest rate of resting that may still be possible; 0 of n
            shows that from n = 29, smaller samples get no verdict. Below a tenth a
            unit's gate carries less than half a bit (1 bit at rate 1/2).
        share_above: share of always-on units from which a layer counts as linear. A
            unit that rests now and then already bends the layer, so only what is left
            of it below a tenth is nothing (5 % always fire at the eighth layer of a
            healthy He net).

    Remedy:
        Because of b: lower it to -w.mu (`plumbob.apply` does). Because of w.mu: the
        same, or centre the input, inside the network by a norm. If the layer does its
        work so, drop the ReLU and save its time.

    Allow when:
        The units carry a positive quantity on purpose and the layer is meant to be
        linear.

    Example:
        >>> from nets import codes, linear_relu
        >>> codes(linear_relu(leans=True)), codes(linear_relu(leans=False))
        ({'PB202'}, set())

    References:
        Clopper and Pearson (1934), The use of confidence or fiducial limits, section
        3. Montúfar, Pascanu, Cho and Bengio (2014), On the number of linear regions
        of deep neural networks, section 2.
    """
    found = {
        site.name: always
        for site in survey.sites
        if (always := _always(site, survey, rests_below)) is not None
        and always.mean() >= share_above
    }
    bends = {s.name for s in survey.sites if s.activation and not s.is_output}
    for site in survey.sites:
        if site.name in found:
            affine = bends <= set(found) and not survey.bends
            yield _finding(survey, site, found[site.name], affine)


def _always(
    site: Site, survey: Survey, rests_below: float
) -> Bool[Any, " units"] | None:
    """Return the units that never rest; None where that cannot be said.

    Inputs that do not vary say nothing about resting, and an output that is always
    positive is what a ReLU there is for.
    """
    reading = survey.readings.get(site.name)
    if (
        site.activation not in {"relu", "relu6"}
        or site.norm is not None
        or site.is_output
        or reading is None
        or reading.z is None
        or 1 - 0.05 ** (1 / max(reading.samples, 1)) > rests_below
    ):
        return None
    z = reading.z
    always = (z.count > 0) & (z.positive == z.count) & (z.nonfinite == 0)
    if site.activation == "relu6":
        always &= z.high <= 6
    return always & (z.high > z.low)


def _finding(
    survey: Survey, site: Site, always: Bool[Any, " units"], affine: bool
) -> Finding:
    reading = survey.readings[site.name]
    z = reading.z
    assert z is not None
    bias = reading.bias(len(always))
    by_bias = always & (z.low < bias)
    # the signs of w.mu are mixed: about half stay on anyway where b does it
    mainly_bias = 3 * by_bias.sum() > always.sum()
    group = by_bias if mainly_bias else always & ~by_bias
    far = np.where(group, z.low / np.where(z.sd > 0, z.sd, 1), -np.inf)
    worst = int(far.argmax())
    b, beta = float(bias[worst]), float(z.mean[worst])
    numbers = "(unit {unit}: b = {b}, w.mu = {shift}, E[z] = {beta}, sd[z] = {sd})"
    return Finding(
        site=site.name,
        units=tuple(int(unit) for unit in np.flatnonzero(always)),
        message="{linear} of {units} {units:unit|units} {linear:fires|fire} on every "
        "one "
        "of {samples} samples, so "
        + (
            "the network is one affine map on these data"
            if affine
            else "the layer is linear on these data"
        ),
        cause=f"the bias: {{by_bias}} of them would rest without it {numbers}"
        if mainly_bias
        else "w.mu: {by_weights} of them {by_weights:stays|stay} on without any bias, "
        "because the input "
        f"is not centred {numbers}",
        evidence={
            "linear": int(always.sum()),
            "units": len(always),
            "share": float(always.mean()),
            "samples": reading.samples,
            "rests_at_most": 1 - 0.05 ** (1 / reading.samples),
            "by_bias": int(by_bias.sum()),
            "by_weights": int((always & ~by_bias).sum()),
            "unit": worst,
            "b": b,
            "shift": beta - b,
            "beta": beta,
            "sd": float(z.sd[worst]),
            "low": float(z.low[worst]),
            "balanced": b - beta,
        },
        remedy=set_bias(
            survey,
            site,
            "Lower these biases to -w.mu, where about half of the inputs fire (unit "
            "{unit}: {balanced})."
            if mainly_bias
            else (
                "Subtract the mean of x" if site.reads_input else "Put a norm before it"
            )
            + ", or set these biases to -w.mu (unit {unit}: {balanced}).",
            always,
            bias - z.mean,
        ),
        own_cause=bool(mainly_bias),
        severity=Severity.WARNING if affine else Severity.INFO,
    )
