"""PB504: weight decay on a bias that has to cancel the mean of the input."""

from collections.abc import Iterator

import numpy as np

from plumbob.rule import rule
from plumbob.types import Finding, Needs, Remedy, Safety, Severity, Survey


@rule(
    "PB504",
    "decayed-raw-bias",
    Needs.ACTIVATIONS | Needs.OPTIMIZER,
    Severity.INFO,
    since="0.1",
    explains=("PB501",),
)
def decayed_raw_bias(survey: Survey, *, offset_above: float = 1.0) -> Iterator[Finding]:
    """A bias is decayed whose map reads an input that is not centred.

    Why:
        A unit feels beta = b + w.mu, and the bias that puts its threshold amid the
        data is near -w.mu. Decay pulls b to 0, so beta to w.mu: away from the data,
        where |w.mu| is above the spread of z. A tanh unit with mu = 5 and a penalty of
        0.1 b^2 went from a mean slope of 0.61 to 0.0014: the penalty made the
        saturation that it is often said to prevent. Penalising (b + w.mu)^2 in its
        place left the slope as it was. How much it costs depends on lr, decay and
        length of the training: no more than info.

    Evidence:
        units of `of`: those with |w.mu| above the spread of z, offset_above times.
        offset: the median of |w.mu| / sd[z] over these; weight_decay: on their bias;
        pull: weight_decay times the median of |w.mu|, with which the decay draws at
        a bias that cancels the mean.

    Args:
        offset_above: |w.mu| in units of sd[z] from which on weight and bias take each
            other's part: at 1 a threshold at w.mu leaves a sixth of the inputs (of
            normal z) on its other side. Told where most of a layer's units are so.

    Remedy:
        Centre the input, or keep the bias out of the decay (`plumbob.apply` does the
        latter), or decay beta: plumbob.design.EffectiveBiasDecay.

    Allow when:
        The output is to be drawn to the one at b = 0, whatever the input's mean.

    Example:
        >>> from nets_optimizer import decayed_raw_bias
        >>> from netting import codes
        >>> codes(decayed_raw_bias(leans=True)) & {"PB504"}
        {'PB504'}
        >>> codes(decayed_raw_bias(leans=False)) & {"PB504"}
        set()

    References:
        Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning,
        section 3.4.1 (the intercept is left out of the penalty).
    """
    assert survey.optimizer is not None
    decays = {
        name: group.weight_decay
        for group in survey.optimizer.groups
        for name in group.parameters
    }
    for site in survey.sites:
        reading = survey.readings.get(site.name)
        decay = decays.get(site.bias or "", 0.0)
        if not decay > 0 or site.kind == "norm" or site.norm or reading is None:
            continue
        if reading.z is None or reading.shift is None or not reading.called:
            continue
        sd, shift = reading.z.sd, np.abs(reading.shift)
        known = (sd > 0) & np.isfinite(shift)
        far = known & (shift > offset_above * sd)
        if 2 * far.sum() <= len(far):
            continue
        yield Finding(
            site=site.name,
            units=tuple(int(j) for j in np.flatnonzero(far)),
            message="a weight decay of {weight_decay} pulls the bias of {units} of "
            "{of} units to 0, where the mean of their input alone moves z by "
            "{offset:.3g} times its spread",
            cause="the input is not centred, so the bias has to cancel its mean, and "
            "the decay draws at it with {pull:.3g}",
            evidence={
                "units": int(far.sum()),
                "of": site.out,
                "offset": float(np.median(shift[far] / sd[far])),
                "weight_decay": decay,
                "pull": decay * float(np.median(shift[far])),
            },
            remedy=Remedy(
                advice="Centre this input, or take the bias out of the weight decay.",
                safety=Safety.CHANGES_TRAINING,
                act="split-groups",
                arguments={"parameters": (site.bias,)},
            ),
        )
