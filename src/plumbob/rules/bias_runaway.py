"""PB706: bounded units whose net input drifts to one side, whatever the input."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from plumbob.progress import gained, latest, told
from plumbob.rule import rule
from plumbob.slopes import STEEP
from plumbob.types import (
    Finding,
    History,
    Needs,
    Remedy,
    Severity,
    Site,
    Survey,
    Window,
)

KEPT = 0.75  # of |beta| / sd: a few samples tell sd no better
BENDS = {"tanh", "sigmoid", "softsign"}


@rule(
    "PB706",
    "bias-runaway",
    Needs.HISTORY | Needs.ACTIVATIONS | Needs.GRAPH,
    Severity.WARNING,
    since="0.1",
    explains=("PB702", "PB711"),
)
def bias_runaway(
    survey: Survey,
    *,
    drift_above: float = 3.0,
    units_above: float = 0.5,
    slope_below: float = 0.8,
    warns_below: float = 0.5,
    gained_below: float = 0.1,
    waits_below: float = 3.0,
) -> Iterator[Finding]:
    """The effective bias of a layer grows while its answer to the input does not.

    Why:
        What a bounded unit feels is beta + (what the input changes), beta = E[z] =
        b + w.mu. Where the second part is small, as it is behind a few sigmoids with
        ordinary weights, the error that all inputs share moves beta and nothing else:
        the units drift to one end of their curve together, the slope falls, and with
        it every gradient that would have taught W something. So the top hidden layer
        of deep sigmoid nets saturates at 0 in the first epochs. It does so with the
        output's bias frozen, and with no bias in the whole net, as mu of a sigmoid
        is 1/2 and w.mu is a bias too: so the rule judges beta, and says what moved
        it.

        A plateau that ends by itself begins the same way, but there the answer to the
        input grows meanwhile, and overtakes the drift. So a warning waits until the
        drift has lasted twice as long as it took to come, and |beta| / sd has not
        fallen since: info before.

    Evidence:
        drifting of units: those whose |beta| has grown by drift = 3 standard deviations
        of z or more since the first window; first, beta: E[z] then and now, sd: the
        deviation now (medians over the drifting units); times: the growth of |beta|
        over sd.
        slope: that of the activation at beta as a share of its steepest, the median
        over all units of the layer.
        by_bias: how much of the drift b did itself (a median; the rest is w.mu).
        steps: of the optimiser so far; gained: how much of what was to be learnt the
        loss has gained, by medians of its first and last tenth where the loss of the
        best constant is not known.

    Args:
        drift_above: how many standard deviations of z the drift must be: beyond 3 a
            unit that stood in the middle is on one side for nearly every input. A net
            that learns moves both: the tanh twin of the net in docs/saturation.md
            drifts by 0.02.
        units_above: share of the layer's units that drift.
        slope_below: the slope at which it is told: a fifth is lost.
        warns_below: the slope from which it is a warning, where the loss has gained
            next to nothing: half of each gradient is lost at this layer. Measured on
            the digits (docs/saturation.md): four sigmoid layers that drift have 10 %
            accuracy after 5000 steps; the same net on batches that hold each class
            once does not drift, and has 62 %.
        gained_below: what counts as next to nothing.
        waits_below: steps taken, in units of those at which the layer had drifted,
            below which it is no warning yet. Set, like the wait itself, after seeing a
            sound net of two sigmoid layers warned of at step 77, whose |beta| / sd was
            36 when it had drifted, 11 at step 245, when it left the plateau.

    Remedy:
        An activation whose mean is 0 (tanh), so that w.mu is no bias; or weights drawn
        so that the input still moves z (Xavier's scheme times the activation's gain),
        or a norm before the activation. Where b itself runs: a lower learning rate for
        it, or b back to -w.mu.

    Allow when:
        The loss is known to leave this plateau by itself in time. Outputs, gates and
        recurrent cells are not judged.

    Example:
        >>> from nets_history_units import bias_runaway
        >>> from watched import codes
        >>> codes(bias_runaway(leans=True)) & {"PB706"}
        {'PB706'}

    References:
        Glorot and Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks, section 3.1.
    """
    history = survey.history
    assert history is not None
    won = gained(history)
    if won is not None and won >= gained_below:
        return
    for site in survey.sites:
        row = told(history.windows.get(site.name, ()))
        if (
            site.activation not in BENDS
            or site.norm is not None
            or site.is_output
            or site.gates
            or site.kind == "recurrent"
            or len(row) < 3
            or (late := latest(row[1:], 29)) is None
        ):
            continue
        early = row[0]
        drifting = _drifting(early, late, drift_above)
        left = float(np.median(_slope(site, late.z.mean)))
        if drifting.mean() < units_above or left >= slope_below:
            continue
        came = next(
            (
                i
                for i, w in enumerate(row[1:], 1)
                if _drifting(early, w, drift_above).mean() >= units_above
                and np.median(_slope(site, w.z.mean)) < slope_below
            ),
            len(row) - 1,
        )
        stays = history.taken >= waits_below * (row[came].last + 1) and _outgrows(
            row[came:]
        )
        yield _finding(
            site,
            history,
            (early, late),
            drifting,
            left,
            won,
            Severity.WARNING
            if won is not None and left < warns_below and stays
            else Severity.INFO,
        )


def _drifting(early: Window, now: Window, times: float) -> Bool[Any, " units"]:
    grown = np.abs(now.z.mean) - np.abs(early.z.mean)
    return (grown >= times * now.z.sd) & (grown > 0)


def _outgrows(row: Sequence[Window]) -> bool:
    """Return whether the drift has grown no less than the answer to the input has.

    Each window's own deviation, as that of several together holds the drift itself.
    """
    ratios = [
        np.median(np.abs(w.z.mean) / np.maximum(w.z.sd, 1e-300))
        for w in (row[0], *row[-3:])
    ]
    return bool(np.median(ratios[1:]) >= KEPT * ratios[0])


def _slope(site: Site, z: Float[Any, " units"]) -> Float[Any, " units"]:
    steep = STEEP[site.activation or ""]
    return steep(z) / steep(np.zeros(1))


def _finding(
    site: Site,
    history: History,
    ends: tuple[Window, Window],
    drifting: Any,
    left: float,
    won: float | None,
    severity: Severity,
) -> Finding:
    early, late = ends
    moved = late.z.mean - early.z.mean
    evidence: dict[str, int | float] = {
        "drifting": int(drifting.sum()),
        "units": len(drifting),
        "first": float(np.median(np.abs(early.z.mean[drifting]))),
        "beta": float(np.median(np.abs(late.z.mean[drifting]))),
        "sd": float(np.median(late.z.sd[drifting])),
        "slope": left,
        "steps": history.taken,
    }
    evidence["times"] = (evidence["beta"] - evidence["first"]) / max(
        evidence["sd"], 1e-300
    )
    own = False
    if early.bias is not None and late.bias is not None:
        share = (late.bias - early.bias)[drifting] / moved[drifting]
        evidence["by_bias"] = float(np.median(share))
        own = evidence["by_bias"] > 0.5
    if won is not None:
        evidence["gained"] = max(won, 0.0)
    return Finding(
        site=site.name,
        units=tuple(int(j) for j in np.flatnonzero(drifting)),
        message="{drifting} of {units} {units:unit|units} {drifting:drifts|drift} to "
        "one side: |E[z]| from {first} to {beta} in {steps} steps, while the input "
        "moves z by {sd}; {slope:.0%} of the slope is left",
        cause=(
            "the bias: {by_bias:.0%} of the drift is its own"
            if own
            else "w.mu: what the layer reads has a mean that acts as a bias"
            + (" (b itself did {by_bias:.0%})" if "by_bias" in evidence else "")
        )
        + ("; the loss has gained {gained:.1%}" if won is not None else ""),
        evidence=evidence,
        remedy=Remedy(
            advice=(
                "Give the biases a lower learning rate; or bring them back to -w.mu; "
                if own
                else "Use tanh, whose mean is 0, in the place of the sigmoids; "
                if site.activation == "sigmoid"
                else "Centre what this layer reads; "
            )
            + "or draw the weights by Xavier's scheme times the activation's gain, so "
            "that the input moves z; or put a norm before the activation."
        ),
        severity=severity,
    )
