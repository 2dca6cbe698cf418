"""PB708: units that leave the range where they answer, seen before they are out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from plumbob.progress import gained, latest, told
from plumbob.remedies import slower
from plumbob.rule import rule
from plumbob.types import Finding, Needs, Severity, Site, Survey, Window

# Below it the slope of the activation is less than 5 % of its steepest, for ever.
EDGES = {"relu": 0.0, "relu6": 0.0, "gelu": -2.28, "silu": -3.93, "elu": -3.0}

ADVICE = (
    "Lower the learning rate to a third; or put a norm before the activation; or use "
    "one with a slope on both sides (leaky ReLU); or, of the model's last layer, leave "
    "the activation out."
)


@dataclass(frozen=True, slots=True)
class _Fates:
    """Units that answered at first: out by now, or on their way and out when."""

    gone: Bool[Any, " units"]
    going: Bool[Any, " units"]
    step: Float[Any, " units"]  # at which each is out, as it goes


@rule(
    "PB708",
    "dying",
    Needs.HISTORY | Needs.ACTIVATIONS | Needs.GRAPH,
    Severity.WARNING,
    since="0.1",
    explains=("PB702", "PB711"),
)
def dying(
    survey: Survey,
    *,
    share_above: float = 0.5,
    warns_above: float = 0.75,
    sure_above: float = 3.0,
    gained_below: float = 0.1,
) -> Iterator[Finding]:
    """Units that answered to the data move out of their range, and will not come back.

    Why:
        A ReLU answers where z > 0. While E[z] falls against sd[z], fewer inputs reach
        the slope, until the largest z of all is below 0: then w and b get no gradient
        any more. The way there takes many steps and is straight enough to be foreseen,
        and a step that is seen in time can still be made shorter. Sparse units are no
        such thing: they keep firing on their few inputs, however long one watches. Nor
        is a layer that loses units while the loss falls; it has found its code.

    Evidence:
        lost of units: those that answered in the first window and are gone (no z of
        the last windows, 29 inputs or more, lies above the edge) or going (the line
        through E[z] + reach sd[z] over the later half of the windows falls, by sure
        = 3 of its standard errors or more, and meets the edge within half as many
        steps as have been taken); reach: how many deviations the largest z lies above
        its mean, unit by unit.
        edge: 0 before a ReLU; where the slope stays below flat = 5 % of the steepest
        before GELU, SiLU and ELU.
        step: the median of the steps at which those that go are out; steps: those
        taken so far.
        first, beta, sd: E[z] in the first window, and E[z] and the deviation in the
        last (medians over the lost units); by_bias: how much of the way b itself went,
        a median; the rest is w.mu.
        gained: how much of what was to be learnt the loss has gained.

    Args:
        share_above: share of the units that answered at first, from which it is told.
        warns_above: share from which it is a warning, where the loss has gained next
            to nothing. By PB201's measurement three quarters of dead units cost 1.9
            times the epochs with momentum.
        sure_above: standard errors by which a line must fall.
        gained_below: what counts as next to nothing; at or above it nothing is told.

    Remedy:
        A smaller step, as the units are thrown or pushed out (`plumbob.apply` divides
        the learning rate by 3); or a norm before the activation, or one with a slope
        on both sides. Where targets pull the whole output below what it can give,
        the last activation is to be left out.

    Allow when:
        Units are pruned or put to sleep on purpose. Gates are not judged.

    Example:
        >>> from nets_history_units import dying
        >>> from watched import codes
        >>> codes(dying(leans=True)) & {"PB708"}
        {'PB708'}

    References:
        Lu, Shin, Su and Karniadakis (2020), Dying ReLU and initialization.
        Maas, Hannun and Ng (2013), Rectifier nonlinearities improve neural network
        acoustic models, section 2.
    """
    history = survey.history
    assert history is not None
    won = gained(history)
    if won is not None and won >= gained_below:
        return
    for site in survey.sites:
        row = told(history.windows.get(site.name, ()))
        if (
            site.activation not in EDGES
            or site.norm is not None
            or site.gates
            or len(row) < 8
            or (late := latest(row[1:], 29)) is None
        ):
            continue
        edge = EDGES[site.activation]
        alive = row[0].z.high > edge
        fates = _fates(row, late, edge, sure_above)
        lost = alive & (fates.gone | fates.going)
        share = float(lost.sum() / max(alive.sum(), 1))
        if share < share_above or 2 * alive.sum() < len(alive):
            continue
        grave = won is not None and share >= warns_above
        evidence = {"edge": edge, "flat": 0.05, "steps": history.taken}
        evidence |= {} if won is None else {"gained": max(won, 0.0)}
        yield _finding(
            survey,
            site,
            (row[0], late),
            lost,
            fates,
            evidence,
            Severity.WARNING if grave else Severity.INFO,
        )


def _fates(row: Sequence[Window], late: Window, edge: float, sure: float) -> _Fates:
    gone = late.z.high <= edge
    half = row[len(row) // 2 :]
    sd = np.maximum(np.stack([w.z.sd for w in half]), 1e-30)
    mean = np.stack([w.z.mean for w in half])
    reach = np.stack([w.z.high for w in half])
    reach = np.median((reach - mean) / sd, axis=0)
    top = mean + reach * sd - edge
    steps = np.array([(w.first + w.last) / 2 for w in half])
    t = steps - steps.mean()
    slope = t @ top / (t @ t)
    rest = top - top.mean(0) - t[:, None] * slope
    error = np.sqrt((rest**2).sum(0) / max(len(half) - 2, 1) / (t @ t))
    now = row[-1].last
    with np.errstate(divide="ignore", invalid="ignore"):
        out = steps.mean() - top.mean(0) / slope
    falls = slope < -sure * error
    near = (out <= 1.5 * now) & np.isfinite(out)
    return _Fates(gone=gone, going=falls & near & ~gone, step=np.maximum(out, now))


def _finding(
    survey: Survey,
    site: Site,
    ends: tuple[Window, Window],
    lost: Bool[Any, " units"],
    fates: _Fates,
    evidence: dict[str, int | float],
    severity: Severity,
) -> Finding:
    early, late = ends
    going = lost & fates.going
    way = (late.z.mean - early.z.mean)[lost]
    evidence = evidence | {
        "units": len(lost),
        "lost": int(lost.sum()),
        "gone": int((lost & fates.gone).sum()),
        "going": int(going.sum()),
        "first": float(np.median(early.z.mean[lost])),
        "beta": float(np.median(late.z.mean[lost])),
        "sd": float(np.median(late.z.sd[lost])),
    }
    own = False
    if early.bias is not None and late.bias is not None and way.all():
        evidence["by_bias"] = float(np.median((late.bias - early.bias)[lost] / way))
        own = evidence["by_bias"] > 0.5
    if going.any():
        evidence["step"] = int(np.median(fates.step[going]))
    return Finding(
        site=site.name,
        units=tuple(int(j) for j in np.flatnonzero(lost)),
        message="{lost} of {units} {units:unit|units} {lost:leaves|leave} the range "
        f"where {site.activation} answers: {{gone}} {{gone:is|are}} out"
        + (", {going} will be, at about step {step}" if going.any() else "")
        + " (E[z] from {first} to {beta} in {steps} steps, sd[z] = {sd})",
        cause=(
            "the bias goes there: {by_bias:.0%} of the way is its own"
            if own
            else "w.mu goes there: the weights, times the mean of what the layer reads"
        )
        + ("; the loss has gained {gained:.1%}" if "gained" in evidence else ""),
        evidence=evidence,
        remedy=slower(survey, ADVICE, 1 / 3),
        severity=severity,
    )
