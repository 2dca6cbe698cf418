"""PB606: the prior is in the output's bias and in the weights of the loss as well."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from plumbob.remedies import shift_bias
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Survey


@rule(
    "PB606",
    "prior-counted-twice",
    Needs.LOSS | Needs.TARGETS,
    Severity.WARNING,
    since="0.1",
    explains=("PB601",),
)
def prior_counted_twice(
    survey: Survey,
    *,
    moved_above: float = 0.4,
    off_below: float = 0.25,
    chance_below: float = 0.01,
    share_above: float = 0.1,
    slow_above: float = 5.0,
) -> Iterator[Finding]:
    """The output's bias is set to shares that the loss has been freed of.

    Why:
        A class that is rare can be made up for in the bias, log(p / (1 - p)), so that
        the net begins with the right shares, or in the loss, by weights or by logits
        that it adds itself, so that the best bias is another: with pos_weight
        (1 - p) / p it is 0. Both together begin as far from the best constant as with
        neither of the two. Bias and loss are compared by numbers: the best constant is
        searched through the loss itself. A bias that lies near the prior by chance is
        nobody's: shares that are all but balanced call for nothing, so that zeros are
        as near, and among drawn values some are.

    Evidence:
        prior: the value that the shares of the targets alone call for at `unit`,
        the one where both differ most; best: what the loss wants there; bias: what it
        has. Of several units the mean of those that occur is taken off. moved: the
        largest distance of best from prior, off: of bias from prior.
        loss, shifted: of the model, and after the best shift of its output; scale:
        what the best constant leaves to be learnt; share = (loss - shifted) / scale.
        units; samples.

    Args:
        moved_above: distance from which the loss is said to have moved the prior: 0.4
            is a weight of 1.5.
        off_below: the bias's distance from the prior, as a share of that, and of the
            prior's own size, which must be as large as `moved_above`. A quarter
            leaves no doubt whether it is the prior, the best constant or zero.
        chance_below: the probability that values drawn from -1 / sqrt(fan_in) to
            1 / sqrt(fan_in), as torch draws them, all lie so near; larger values are
            not drawn so.
        share_above: below a tenth of what is to be learnt nothing hangs on it.
        slow_above: a warning from here, as for PB601, whose cost this is. Digits, a
            rate of 2.7 % (share 1.6), pos_weight and prior against pos_weight alone,
            4 seeds: SGD and Adam take as many epochs, so that it is a note.

    Remedy:
        Add the shift to the output's bias (`plumbob.apply` does), or leave the weights
        out of the loss: never both the prior and the weights.

    Allow when:
        The weights stand for costs, and the bias was learnt elsewhere.

    Example:
        >>> from nets_loss import prior_counted_twice
        >>> from netting import codes
        >>> ["PB606" in codes(prior_counted_twice(leans=x)) for x in (1, 0)]
        [True, False]

    References:
        King and Zeng (2001), Logistic regression in rare events data, section 4.
        Menon et al. (2021), Long-tail learning via logit adjustment, section 4.
    """
    found, loss = survey.output, survey.loss
    assert found is not None
    assert loss is not None
    site = next((s for s in survey.sites if s.name == found.site), None)
    if site is None or site.name not in survey.readings or found.mean_target is None:
        return
    rows, shares = survey.readings[site.name].rows, found.mean_target
    if rows is None or rows.bias is None or len(shares) != len(rows.bias):
        return
    if loss.targets not in {"classes", "one-hot", "binary"} or loss.wants == "numbers":
        return
    several = loss.targets != "binary"
    known = (shares > 0) & ((shares < 1) | several)
    if not known.any() or (known.sum() == 1 and several):
        return
    prior = np.log(shares[known]) - (0 if several else np.log1p(-shares[known]))
    values = (prior, found.best[known], rows.bias[known])
    prior, best, bias = (_centred(v) if several else v for v in values)
    moved, off = float(abs(best - prior).max()), float(abs(bias - prior).max())
    size = float(abs(prior).max())
    drawn = site.fan_in**-0.5  # the largest that a bias is by torch's own draw
    chance = 1.0 if float(abs(rows.bias[known]).max()) <= drawn else 0.0
    chance *= min(1.0, off / drawn) ** (len(prior) - several)
    if size < moved_above or off > off_below * size or chance > chance_below:
        return
    scale = found.constant - (found.floor or 0.0)
    if scale <= 0:
        return
    share = (found.loss - found.shifted) / scale
    if moved < moved_above or off > off_below * moved or share <= share_above:
        return
    unit = int(abs(best - prior).argmax())
    yield Finding(
        message="the output's bias is the shares' own ({bias} at unit {unit}), but the "
        "loss wants {best} there: the loss starts at {loss} instead of {shifted}",
        cause="its weights, or logits that it adds, make up for the shares ({prior}) "
        "already",
        evidence={
            "prior": float(prior[unit]),
            "best": float(best[unit]),
            "bias": float(bias[unit]),
            "unit": int(np.flatnonzero(known)[unit]),
            "moved": moved,
            "off": off,
            "loss": found.loss,
            "shifted": found.shifted,
            "scale": scale,
            "share": share,
            "units": len(shares),
            "samples": found.samples,
        },
        severity=Severity.WARNING if share > slow_above else Severity.INFO,
        remedy=shift_bias(
            survey,
            site,
            "Add to the bias what the loss wants (unit {unit}: {best} in all), or take "
            "the weights out of the loss.",
            known,
            found.shift,
        ),
    )


def _centred(values: Float[Any, " units"]) -> Float[Any, " units"]:
    return values - values.mean()
