"""PB206: most of the bias cancels an uncentred input."""

from collections.abc import Iterator

import numpy as np

from plumbob.remedies import centre
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Survey


@rule("PB206", "bias-cancels-mean", Needs.ACTIVATIONS, Severity.INFO, since="0.1")
def bias_cancels_mean(
    survey: Survey,
    *,
    size_above: float = 3.0,
    cancelled_above: float = 0.8,
    share_above: float = 0.5,
) -> Iterator[Finding]:
    """Large biases do nothing but cancel the mean of an uncentred input.

    Why:
        E[z] = b + w.mu is what a unit feels. Where b is large and b + w.mu small, the
        bias states no threshold: it undoes w.mu. Nothing is wrong with the function,
        but w and b are tied (a change of w needs one of b), weight decay on b acts as
        a pull on E[z], low precision rounds b and w.mu apart, and learning had to
        carry b there. A bias that is large for a reason leaves E[z] large: log-odds
        of a rare class, a target offset (at the output), sparsity (a hidden unit
        that seldom fires); those are not reported.

    Evidence:
        cancelling of units: how many have such a bias; share of the site's.
        unit, b, shift (w.mu), beta (E[z]), sd, size = |b| / sd, cancelled = 1 -
        |beta| / |b|: those of the unit with the largest size; kappa = |w.mu| / sd.

    Args:
        size_above: |b| in sd[z]. At 3 the unit would be on one side of its
            threshold for 999 of 1000 normal inputs if b alone moved it.
        cancelled_above: at 0.8 the effective bias is at most a fifth of the stored
            one, that is, five times its remainder went into the mean.
        share_above: of the site's units, so that one odd unit is no finding.

    Remedy:
        Centre x and set b to b + w.mu: the same function, and b means a threshold
        again. `plumbob.apply` does both inside the layer, where it is of a kind that
        can. What the mean costs in learning, uncentred-input tells.

    Allow when:
        The model is finished and runs in float32: then it only says where the
        biases' size comes from.

    Example:
        >>> from nets import codes, bias_cancels_mean
        >>> codes(bias_cancels_mean(leans=True)), codes(bias_cancels_mean(leans=False))
        ({'PB206'}, set())

    References:
        Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning,
        section 3.4.1 (centre, then the intercept is the mean response).
    """
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        if (
            site.kind not in {"linear", "conv", "conv-transpose"}
            or site.norm == "batch-norm"
            or reading is None
            or reading.z is None
            or reading.rows is None
            or reading.rows.bias is None
            or reading.samples < 2
        ):
            continue
        b, beta, sd = reading.rows.bias, reading.z.mean, reading.z.sd
        large = (sd > 0) & (np.abs(b) >= size_above * sd)
        found = large & (np.abs(beta) <= (1 - cancelled_above) * np.abs(b))
        if not found.any() or found.mean() < share_above:
            continue
        size = np.where(found, np.abs(b), 0) / np.where(sd > 0, sd, 1)
        unit = int(size.argmax())
        yield Finding(
            site=site.name,
            units=tuple(int(i) for i in np.flatnonzero(found)),
            message="the {cancelling:bias|biases} of {cancelling} of {units} "
            "{units:unit|units} mostly {cancelling:cancels|cancel} the mean of the "
            "input: {cancelled:.0%} of unit {unit}'s (b = {b}, w.mu = "
            "{shift}, E[z] = {beta})",
            cause="x is not centred (w.mu is {kappa:.3g} times sd[z]); no threshold, "
            "class prior or target offset asks for a bias of this size",
            evidence={
                "cancelling": int(found.sum()),
                "units": len(b),
                "share": float(found.mean()),
                "unit": unit,
                "b": float(b[unit]),
                "shift": float(beta[unit] - b[unit]),
                "beta": float(beta[unit]),
                "sd": float(sd[unit]),
                "size": float(size[unit]),
                "cancelled": float(1 - abs(beta[unit] / b[unit])),
                "kappa": float(abs(beta[unit] - b[unit]) / sd[unit]),
            },
            remedy=centre(
                survey,
                site,
                "Centre x and set the biases to b + w.mu (unit {unit}: {beta}), which "
                "is the same function.",
                keep=True,
            ),
        )
